#!/bin/bash
# The headers' comments are plain C comments; Doxygen wants its own marks on those that stand before
# a declaration or behind a member.
#
# SPDX-License-Identifier: Apache-2.0
case "$1" in
*.h)
    sed -E -e 's,^( *)/\* ,\1/** ,' -e 's,^/\*$,/**,' \
        -e 's,([^ /*].*[^ ]) +/\* ,\1 /**< ,' "$1"
    ;;
*) cat "$1" ;;
esac
