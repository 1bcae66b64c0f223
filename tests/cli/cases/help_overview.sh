# SPDX-License-Identifier: Apache-2.0
kiln --help > one
kiln -h > two
kiln help > three
cmp one two && cmp one three && cat one
