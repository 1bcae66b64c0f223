/* SPDX-License-Identifier: Apache-2.0 */
__attribute__((visibility("default"))) int fake_elsewhere(void);

int fake_elsewhere(void)
{
    return 2;
}
