# SPDX-License-Identifier: Apache-2.0
# Every command of the overview has a help that fits 80 columns and a manual page that troff likes.
commands=$(kiln help | sed -n '/^Commands:/,/^$/s/^  \([a-z]*\) .*/\1/p')
echo $commands
for command in $commands; do
    kiln "$command" --help > text && head -1 text
    kiln help "$command" | cmp - text
    awk 'length > 80 {print "too long: " $0}' text
    # What is listed twice, by its name or its letter, is one of the two only.
    grep -oE '^ {2,6}(-., )?--[a-z0-9-]+' text | grep -oE -- '--?[a-zA-Z0-9-]+' | sort | uniq -d
    kiln help --man "$command" > page || echo "no page"
    head -2 page | tail -1
    if command -v groff > groff_path; then
        groff -man -Tutf8 -z -ww page
    fi
done
kiln help --man | head -2
