/* SPDX-License-Identifier: Apache-2.0 */
/* What the loader asks CUDA's libraries for, all in one file: a link gives it the name of each. */
#define FAKE_FUNCTION(name)                                \
    __attribute__((visibility("default"))) int name(void); \
                                                           \
    int name(void)                                         \
    {                                                      \
        return 0;                                          \
    }

FAKE_FUNCTION(cudaRuntimeGetVersion)
FAKE_FUNCTION(cublasLtGetVersion)
FAKE_FUNCTION(cublasCreate_v2)
FAKE_FUNCTION(curandGetVersion)
FAKE_FUNCTION(cufftGetVersion)
FAKE_FUNCTION(nvrtcVersion)
FAKE_FUNCTION(cudnnGetVersion)
