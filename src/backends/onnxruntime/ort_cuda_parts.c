/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>

#include "ort_runtime.h"

/* The CUDA provider names the libraries that it needs in its ELF header, by bare name, and opens
 * cuDNN and cuFFT itself in the same way. pip installs them where the dynamic linker does not
 * search; but a library that is already open satisfies its name, wherever it was found. */

#define ADVICE(packages) \
    "pip install " packages ", or set KILN_CUDA_LIBRARIES to the folder of CUDA's libraries"

#define PART(label, word, function, file, package, advised)                               \
    {                                                                                     \
        .name = label, .purpose = "is used by ONNX Runtime on a GPU: " word,              \
        .environment = "KILN_CUDA_LIBRARIES", .files = (const char *const[]){file, NULL}, \
        .packages = (const char *const[]){package, NULL}, .folders = folders,             \
        .symbols = (const kln_symbol[]){{function, 0, NULL}, {NULL, 0, NULL}},            \
        .table_size = sizeof(void *), .system_first = true, .advice = ADVICE(advised),    \
    }

static const char *const folders[] = {"/usr/local/cuda/lib64", "/usr/local/cuda-*/lib64", NULL};

/* A library comes after those that it needs. */
static const kln_library_spec parts[][ORT_CUDA_PARTS] = {
    {
        PART("CUDA runtime 13", "CUDA", "cudaRuntimeGetVersion", "libcudart.so.13",
             "nvidia/cu13/lib", "nvidia-cuda-runtime"),
        PART("cuBLASLt 13", "matrix products", "cublasLtGetVersion", "libcublasLt.so.13",
             "nvidia/cu13/lib", "nvidia-cublas"),
        PART("cuBLAS 13", "matrix products", "cublasCreate_v2", "libcublas.so.13",
             "nvidia/cu13/lib", "nvidia-cublas"),
        PART("cuRAND 10", "random numbers", "curandGetVersion", "libcurand.so.10",
             "nvidia/cu13/lib", "nvidia-curand"),
        PART("cuFFT 12", "Fourier transforms", "cufftGetVersion", "libcufft.so.12",
             "nvidia/cu13/lib", "nvidia-cufft"),
        PART("NVRTC 13", "kernels compiled at run time", "nvrtcVersion", "libnvrtc.so.13",
             "nvidia/cu13/lib", "nvidia-cuda-nvrtc"),
        PART("cuDNN 9", "convolutions", "cudnnGetVersion", "libcudnn.so.9", "nvidia/cudnn/lib",
             "nvidia-cudnn-cu13"),
    },
    {
        PART("CUDA runtime 12", "CUDA", "cudaRuntimeGetVersion", "libcudart.so.12",
             "nvidia/cuda_runtime/lib", "nvidia-cuda-runtime-cu12"),
        PART("cuBLASLt 12", "matrix products", "cublasLtGetVersion", "libcublasLt.so.12",
             "nvidia/cublas/lib", "nvidia-cublas-cu12"),
        PART("cuBLAS 12", "matrix products", "cublasCreate_v2", "libcublas.so.12",
             "nvidia/cublas/lib", "nvidia-cublas-cu12"),
        PART("cuRAND 10", "random numbers", "curandGetVersion", "libcurand.so.10",
             "nvidia/curand/lib", "nvidia-curand-cu12"),
        PART("cuFFT 11", "Fourier transforms", "cufftGetVersion", "libcufft.so.11",
             "nvidia/cufft/lib", "nvidia-cufft-cu12"),
        PART("NVRTC 12", "kernels compiled at run time", "nvrtcVersion", "libnvrtc.so.12",
             "nvidia/cuda_nvrtc/lib", "nvidia-cuda-nvrtc-cu12"),
        PART("cuDNN 9", "convolutions", "cudnnGetVersion", "libcudnn.so.9", "nvidia/cudnn/lib",
             "nvidia-cudnn-cu12"),
    },
};

static const kln_library_spec provider_spec = {
    .name = "ONNX Runtime's CUDA provider",
    .purpose = "runs ONNX models on a GPU",
    .files = (const char *const[]){"libonnxruntime_providers_cuda.so", NULL},
    .advice =
        "pip install onnxruntime-gpu, and set KILN_ONNXRUNTIME to its folder "
        "onnxruntime/capi: the provider lies beside the library that is built for it",
};

/* Each library is looked for only once, because a report may hold its record as long as the process
 * lives. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static kln_library *records[KLN_ARRAY_LENGTH(parts)][ORT_CUDA_PARTS];

kln_library *ort_cuda_look(const char *library)
{
    char folder[PATH_MAX];
    kln_library *provider = NULL;
    const char *slash = strrchr(library, '/');
    (void)snprintf(folder, sizeof folder, "%.*s", slash != NULL ? (int)(slash - library) : 0,
                   library);
    const kiln_status status =
        kln_library_look(&provider_spec, slash != NULL ? folder : NULL, &provider);
    return status == KILN_OK ? provider : NULL;
}

kln_library_use ort_cuda_provider(const ort_runtime *runtime)
{
    return (kln_library_use){&provider_spec, runtime->provider, ""};
}

/* The row of `parts` for the CUDA provider beside `runtime`; -1 if there is no provider. */
static int row_for(const ort_runtime *runtime)
{
    if (kln_library_state(runtime->provider) != KILN_LIBRARY_FOUND) {
        return -1;
    }
    return kln_library_needs(kln_library_path(runtime->provider), "libcudart.so.12") ? 1 : 0;
}

bool ort_cuda_part(const ort_runtime *runtime, size_t index, kln_library_use *use)
{
    const int row = row_for(runtime);
    if (row < 0 || index >= ORT_CUDA_PARTS) {
        return false;
    }
    const kln_library_spec *spec = &parts[row][index];
    kln_library **record = &records[row][index];
    void *function = NULL;
    (void)pthread_mutex_lock(&lock);
    const kiln_status status =
        *record == NULL ? kln_library_open(spec, NULL, &function, record) : KILN_OK;
    if (status != KILN_OK) {
        kln_log(KILN_LOG_DEBUG, "onnxruntime", "%s", kiln_error_message());
    }
    if (status == KILN_ERROR_OUT_OF_MEMORY) {
        kln_library_forget(*record);
        *record = NULL;
    }
    const bool looked = *record != NULL;
    (void)pthread_mutex_unlock(&lock);
    *use = (kln_library_use){spec, *record, ""};
    return looked;
}

void ort_cuda_open_parts(const ort_runtime *runtime, char missing[ORT_CUDA_MISSING])
{
    kln_library_use use;
    size_t used = 0;
    missing[0] = '\0';
    for (size_t i = 0; ort_cuda_part(runtime, i, &use); i++) {
        const kiln_library_state state = kln_library_state(use.library);
        if (state != KILN_LIBRARY_FOUND && used < ORT_CUDA_MISSING) {
            const int more = snprintf(missing + used, ORT_CUDA_MISSING - used, "%s%s %s",
                                      used == 0 ? "; of what it uses " : ", ", use.spec->files[0],
                                      state == KILN_LIBRARY_ABSENT ? "is absent" : "is broken");
            used += more > 0 ? (size_t)more : 0;
        }
    }
    if (used != 0 && used + sizeof "; kiln doctor says where" < ORT_CUDA_MISSING) {
        (void)snprintf(missing + used, ORT_CUDA_MISSING - used, "; kiln doctor says where");
    }
}
