# SPDX-License-Identifier: Apache-2.0
# Options of the table, which stand between these two lines, are not told again here.
kiln run --help | sed '/^Engine:/,/--graph POLICY/{//!d;}'
