/* SPDX-License-Identifier: Apache-2.0 */
#include "cuda_driver.h"

#include <ctype.h>
#include <stdio.h>

#define SENTENCE_SIZE 1024

static const kln_symbol symbols[] = {
#define SYMBOL(member, symbol, version, feature, parameters) \
    {symbol, offsetof(cuda_table, member), feature},
    KLN_CUDA_FUNCTIONS(SYMBOL)
#undef SYMBOL
        {NULL, 0, NULL},
};

static const int versions[] = {
#define VERSION(member, symbol, version, feature, parameters) version,
    KLN_CUDA_FUNCTIONS(VERSION)
#undef VERSION
};

static const char *const files[] = {"libcuda.so.1", NULL};
static const char *const folders[] = {"/usr/local/nvidia/lib64", "/usr/lib/wsl/lib", NULL};

static void write_version(int version, char text[KLN_LIBRARY_VERSION])
{
    (void)snprintf(text, KLN_LIBRARY_VERSION, "%d.%d", version / 1000, version % 1000 / 10);
}

static bool accept_driver(const void *table, char version[KLN_LIBRARY_VERSION],
                          char reason[KLN_LIBRARY_REASON])
{
    const cuda_table *cuda = table;
    int number = 0;
    if (cuda->driver_version(&number) != CU_SUCCESS) {
        (void)snprintf(reason, KLN_LIBRARY_REASON, "it does not tell its version");
        return false;
    }
    write_version(number, version);
    if (number < KLN_CUDA_LEAST_VERSION) {
        (void)snprintf(reason, KLN_LIBRARY_REASON,
                       "it speaks CUDA %s, and Kiln needs 11.0 or newer: update the NVIDIA driver",
                       version);
        return false;
    }
    return true;
}

static const kln_library_spec spec = {
    .name = "CUDA driver",
    .purpose = "reaches NVIDIA GPUs",
    .environment = "KILN_CUDA_DRIVER",
    .files = files,
    .folders = folders,
    .symbols = symbols,
    .table_size = sizeof(cuda_table),
    .advice =
        "install the NVIDIA driver (in a container: the NVIDIA container toolkit), or set "
        "KILN_CUDA_DRIVER to the path of libcuda.so.1",
    .accept = accept_driver,
};

typedef enum driver_state { UNKNOWN, OPEN, FAILED } driver_state;

/* Every member but `state` is written under `guard`, before `state` is set. */
static struct {
    pthread_mutex_t guard;
    unsigned forks; /* kln_forks when the driver was opened */
    atomic_int state;
    cuda_table table;
    kln_library *library;
    kiln_status failure;
    char sentence[SENTENCE_SIZE]; /* of the failure, for later callers */
    int version;
    int32_t count;
    cuda_device devices[KLN_CUDA_DEVICE_LIMIT];
} driver = {.guard = PTHREAD_MUTEX_INITIALIZER};

/* --- errors --- */

static kiln_status translate(int result)
{
    switch (result) {
        case CU_SUCCESS: return KILN_OK;
        case CU_OUT_OF_MEMORY: return KILN_ERROR_OUT_OF_MEMORY;
        case CU_NO_DEVICE:
        case CU_INVALID_DEVICE: return KILN_ERROR_NO_DEVICE;
        case CU_NOT_SUPPORTED: return KILN_ERROR_UNSUPPORTED;
        case CU_STUB_LIBRARY: return KILN_ERROR_LIBRARY_BROKEN;
        case CU_SYSTEM_DRIVER_MISMATCH: return KILN_ERROR_LIBRARY_VERSION;
        default: return KILN_ERROR_DEVICE;
    }
}

/* Advice where the driver's name and text for an error say too little. */
static const char *advice(int result)
{
    switch (result) {
        case CU_STUB_LIBRARY:
            return "; this is the toolkit's stub, the NVIDIA driver has the real one";
        case CU_OUT_OF_MEMORY: return "; nvidia-smi tells what else uses the device";
        case CU_NO_DEVICE: return "; check nvidia-smi and CUDA_VISIBLE_DEVICES";
        case CU_SYSTEM_DRIVER_MISMATCH:
            return "; libcuda and the kernel module differ, which a restart of the machine fixes";
        case CU_ECC_UNCORRECTABLE:
        case CU_NVLINK_UNCORRECTABLE:
        case CU_CONTAINED:
        case CU_ILLEGAL_ADDRESS:
        case CU_LAUNCH_TIMEOUT:
        case CU_CONTEXT_IS_DESTROYED:
        case CU_ASSERT:
        case CU_HARDWARE_STACK:
        case CU_ILLEGAL_INSTRUCTION:
        case CU_MISALIGNED_ADDRESS:
        case CU_INVALID_ADDRESS_SPACE:
        case CU_INVALID_PC:
        case CU_LAUNCH_FAILED:
            return "; nothing works on this device any more until the process is started anew";
        default: return "";
    }
}

static const char *ask_name(int result)
{
    const char *name = NULL;
    return driver.table.error_name(result, &name) == CU_SUCCESS && name != NULL ? name
                                                                                : "CUDA_ERROR_?";
}

static const char *ask_text(int result)
{
    const char *text = NULL;
    return driver.table.error_text(result, &text) == CU_SUCCESS && text != NULL
               ? text
               : "the driver has no text for it";
}

kiln_status cuda_check(int result, const char *format, ...)
{
    if (result == CU_SUCCESS) {
        return KILN_OK;
    }
    char what[SENTENCE_SIZE];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(what, sizeof what, format, arguments);
    va_end(arguments);
    return kln_fail(translate(result), "%s: %s (%d): %s%s", what, ask_name(result), result,
                    ask_text(result), advice(result));
}

void cuda_log_failure(int result, const char *what)
{
    if (result != CU_SUCCESS) {
        kln_log(KILN_LOG_WARNING, "cuda", "%s: %s (%d): %s", what, ask_name(result), result,
                ask_text(result));
    }
}

/* --- opening --- */

/* Drops functions that are newer than the driver's version, even if its library exports them. */
static void drop_newer_functions(cuda_table *table, int version)
{
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(versions); i++) {
        if (versions[i] > version) {
            memset((unsigned char *)table + symbols[i].offset, 0, sizeof(void (*)(void)));
        }
    }
}

static kiln_status ask(const cuda_table *cuda, int handle, int attribute, int *value)
{
    return cuda_check(cuda->device_attribute(value, attribute, handle), "attribute %d of device %d",
                      attribute, handle);
}

static kiln_status describe_device(const cuda_table *cuda, int index, cuda_device *device)
{
    KLN_RETURN_IF_ERROR(cuda_check(cuda->device_get(&device->handle, index), "device %d", index));
    const int handle = device->handle;
    KLN_RETURN_IF_ERROR(
        cuda_check(cuda->device_name(device->name, (int)sizeof device->name, handle),
                   "the name of device %d", index));
    device->name[sizeof device->name - 1] = '\0';
    KLN_RETURN_IF_ERROR(
        cuda_check(cuda->device_pci(device->pci_address, (int)sizeof device->pci_address, handle),
                   "the PCI address of device %d", index));
    device->pci_address[sizeof device->pci_address - 1] = '\0';
    /* In lower case, as lspci and /sys write it. */
    for (char *c = device->pci_address; *c != '\0'; c++) {
        *c = (char)tolower((unsigned char)*c);
    }
    KLN_RETURN_IF_ERROR(cuda_check(cuda->device_memory(&device->total_bytes, handle),
                                   "the memory of device %d", index));
    KLN_RETURN_IF_ERROR(ask(cuda, handle, CU_ATTRIBUTE_COMPUTE_MAJOR, &device->compute_major));
    KLN_RETURN_IF_ERROR(ask(cuda, handle, CU_ATTRIBUTE_COMPUTE_MINOR, &device->compute_minor));
    KLN_RETURN_IF_ERROR(ask(cuda, handle, CU_ATTRIBUTE_MULTIPROCESSORS, &device->multiprocessors));
    KLN_RETURN_IF_ERROR(ask(cuda, handle, CU_ATTRIBUTE_INTEGRATED, &device->integrated));
    KLN_RETURN_IF_ERROR(ask(cuda, handle, CU_ATTRIBUTE_MANAGED_MEMORY, &device->managed_memory));
    /* A driver before 11.2 does not know this attribute. */
    if (cuda->allocate_ordered == NULL ||
        cuda->device_attribute(&device->memory_pools, CU_ATTRIBUTE_MEMORY_POOLS, handle) !=
            CU_SUCCESS) {
        device->memory_pools = 0;
    }
    return KILN_OK;
}

static kiln_status look_for_devices(void)
{
    const cuda_table *cuda = &driver.table;
    KLN_RETURN_IF_ERROR(cuda_check(cuda->init(0), "starting the CUDA driver"));
    int count = 0;
    KLN_RETURN_IF_ERROR(cuda_check(cuda->device_count(&count), "counting the CUDA devices"));
    if (count <= 0) {
        return cuda_check(CU_NO_DEVICE, "counting the CUDA devices");
    }
    count = count < KLN_CUDA_DEVICE_LIMIT ? count : KLN_CUDA_DEVICE_LIMIT;
    for (int i = 0; i < count; i++) {
        KLN_RETURN_IF_ERROR(describe_device(cuda, i, &driver.devices[i]));
    }
    driver.count = count;
    return KILN_OK;
}

static kiln_status open_driver(void)
{
    KLN_RETURN_IF_ERROR(kln_library_open(&spec, NULL, &driver.table, &driver.library));
    int version = 0;
    (void)driver.table.driver_version(&version);
    driver.version = version;
    drop_newer_functions(&driver.table, version);
    const kiln_status status = look_for_devices();
    if (status == KILN_ERROR_LIBRARY_BROKEN || status == KILN_ERROR_LIBRARY_VERSION) {
        kln_library_refuse(driver.library, kiln_error_message());
    }
    return status;
}

static kiln_status open_once(void)
{
    if (atomic_load(&driver.state) != UNKNOWN) {
        return KILN_OK;
    }
    const kiln_status status = open_driver();
    if (status == KILN_ERROR_OUT_OF_MEMORY) {
        /* Not a final result: a later attempt may find enough memory. */
        kln_library_forget(driver.library);
        driver.library = NULL;
        return status;
    }
    driver.failure = status;
    if (status != KILN_OK) {
        (void)snprintf(driver.sentence, sizeof driver.sentence, "%s", kiln_error_message());
    }
    driver.forks = kln_forks_begin();
    atomic_store(&driver.state, status == KILN_OK ? OPEN : FAILED);
    return KILN_OK;
}

kiln_status kln_cuda_open(void)
{
    if (atomic_load_explicit(&driver.state, memory_order_acquire) == OPEN) {
        return driver.forks == kln_forks()
                   ? KILN_OK
                   : kln_fail(KILN_ERROR_STATE,
                              "this process was forked after the CUDA driver was started, which "
                              "then works in the other one only; use it after fork, or start a "
                              "program anew (exec)");
    }
    (void)pthread_mutex_lock(&driver.guard);
    const kiln_status status = open_once();
    (void)pthread_mutex_unlock(&driver.guard);
    KLN_RETURN_IF_ERROR(status);
    return atomic_load(&driver.state) == OPEN ? KILN_OK
                                              : kln_fail(driver.failure, "%s", driver.sentence);
}

kiln_status kln_cuda_library(kln_library_use *use)
{
    const kiln_status status = kln_cuda_open();
    if (status == KILN_ERROR_OUT_OF_MEMORY) {
        return status;
    }
    *use = (kln_library_use){
        .spec = &spec, .library = driver.library, .version = kln_library_version(driver.library)};
    return KILN_OK;
}

int kln_cuda_version(void)
{
    return kln_cuda_open() == KILN_OK ? driver.version : 0;
}

bool cuda_has_kernels(void)
{
    const cuda_table *cuda = cuda_functions();
    return cuda->module_load != NULL && cuda->module_function != NULL &&
           cuda->module_unload != NULL && cuda->launch_kernel != NULL;
}

bool kln_cuda_has(kln_cuda_feature feature, int32_t device)
{
    cuda_device *found = NULL;
    if (cuda_find_device(device, &found) != KILN_OK) {
        return false;
    }
    const cuda_table *cuda = &driver.table;
    switch (feature) {
        case KLN_CUDA_STREAM_ORDERED:
            return cuda->allocate_ordered != NULL && cuda->release_ordered != NULL &&
                   cuda->default_pool != NULL && cuda->pool_trim != NULL &&
                   cuda->pool_set != NULL && found->memory_pools != 0;
        case KLN_CUDA_GRAPHS:
            return cuda->capture_begin != NULL && cuda->capture_end != NULL &&
                   cuda->capture_status != NULL && cuda->graph_destroy != NULL &&
                   cuda->graph_nodes != NULL && cuda->graph_launch != NULL &&
                   cuda->exec_destroy != NULL &&
                   (cuda->graph_instantiate_flags != NULL || cuda->graph_instantiate != NULL);
        case KLN_CUDA_GRAPH_UPDATE:
            return cuda->exec_update_info != NULL || cuda->exec_update != NULL;
        case KLN_CUDA_KERNELS: return cuda_has_kernels();
    }
    return false;
}

void kln_cuda_close(void)
{
    KLN_LOCKED(&driver.guard);
    for (int32_t i = 0; i < driver.count; i++) {
        if (driver.devices[i].forget_kernels != NULL) {
            driver.devices[i].forget_kernels(i);
        }
        if (atomic_load(&driver.devices[i].context) != NULL) {
            cuda_log_failure(driver.table.context_release(driver.devices[i].handle),
                             "giving a primary context back");
            atomic_store(&driver.devices[i].context, NULL);
        }
    }
    /* The driver has threads of its own, so its library stays loaded. */
    kln_library_forget(driver.library);
    driver.library = NULL;
    driver.count = 0;
    driver.version = 0;
    atomic_store(&driver.state, UNKNOWN);
}

/* --- for the other files of this module --- */

const cuda_table *cuda_functions(void)
{
    return &driver.table;
}

kiln_status cuda_find_device(int32_t index, cuda_device **device)
{
    KLN_RETURN_IF_ERROR(kln_cuda_open());
    KLN_RETURN_IF(index < 0 || index >= driver.count, KILN_ERROR_NO_DEVICE,
                  "CUDA device %d was asked for, and there %s %d, counted from 0", index,
                  driver.count == 1 ? "is" : "are", driver.count);
    *device = &driver.devices[index];
    return KILN_OK;
}

int32_t kln_cuda_device_count(void)
{
    return kln_cuda_open() == KILN_OK ? driver.count : 0;
}

kiln_status cuda_primary_context(cuda_device *device, void **context)
{
    *context = atomic_load_explicit(&device->context, memory_order_acquire);
    if (*context != NULL) {
        return KILN_OK;
    }
    (void)pthread_mutex_lock(&driver.guard);
    int result = CU_SUCCESS;
    *context = atomic_load(&device->context);
    if (*context == NULL) {
        result = driver.table.context_retain(context, device->handle);
        if (result == CU_SUCCESS) {
            atomic_store(&device->context, *context);
        }
    }
    (void)pthread_mutex_unlock(&driver.guard);
    return cuda_check(result, "the primary context of device %d (%s)", device->handle,
                      device->name);
}
