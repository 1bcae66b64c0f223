# SPDX-License-Identifier: Apache-2.0
for command in rum benhc xyzzy convert --verison --x help; do
    ends "$command"
done > answers
grep exit answers
kiln help rum
