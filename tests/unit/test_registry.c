/* SPDX-License-Identifier: Apache-2.0 */
#include "backends/kln_backends.h"
#include "kiln_test.h"

static kiln_status probe_good(const char *library, kiln_backend_info *info)
{
    info->available = true;
    info->score = 40;
    info->version = "7.1";
    info->reason = library != NULL ? library : "it is there";
    return KILN_OK;
}

static kiln_status probe_better(const char *library, kiln_backend_info *info)
{
    info->available = true;
    info->score = 60;
    info->reason = "it is better";
    return KILN_OK;
}

static kiln_status probe_absent(const char *library, kiln_backend_info *info)
{
    info->reason = "libbest.so is not installed";
    return KILN_ERROR_LIBRARY_ABSENT;
}

static kiln_status probe_unfit(const char *library, kiln_backend_info *info)
{
    info->reason = "the moon is in the wrong phase";
    return KILN_OK;
}

static kiln_status probe_starved(const char *library, kiln_backend_info *info)
{
    return kln_fail_memory(12, "a probe");
}

static kiln_status no_build(const kiln_model *model, const kiln_build_options *options,
                            const kiln_monitor *monitor, void **engine)
{
    return KILN_OK;
}

static kiln_status no_describe(void *engine, kiln_description *description)
{
    return KILN_OK;
}

static void no_destroy(void *object)
{
}

static kiln_status no_context(void *engine, const kiln_context_options *options, void **context)
{
    return KILN_OK;
}

static kiln_status no_bind(void *context, size_t index, const kiln_tensor *tensor)
{
    return KILN_OK;
}

static kiln_status no_run(void *context)
{
    return KILN_OK;
}

static kiln_status no_output(void *context, size_t index, kiln_tensor *tensor)
{
    return KILN_OK;
}

#define OPERATIONS                                                                 \
    .engine = {.build = no_build, .describe = no_describe, .destroy = no_destroy}, \
    .context = {.create = no_context,                                              \
                .destroy = no_destroy,                                             \
                .bind = no_bind,                                                   \
                .run = no_run,                                                     \
                .output = no_output}
#define BACKEND(name_, probe_)                                                       \
    {                                                                                \
        .name = (name_), .description = "a stand-in", .probe = (probe_), OPERATIONS, \
        .environment = "KILN_NONE",                                                  \
    }

static const kiln_backend good = BACKEND("good", probe_good);
static const kiln_backend better = BACKEND("better", probe_better);
static const kiln_backend absent = BACKEND("absent", probe_absent);
static const kiln_backend unfit = BACKEND("unfit", probe_unfit);
static const kiln_backend starved = BACKEND("starved", probe_starved);
/* It opens no library. */
static const kiln_backend built_in = {
    .name = "built-in",
    .description = "a stand-in",
    .probe = probe_better,
    OPERATIONS,
};
static const kiln_backend *const list[] = {&absent, &good, &better, &unfit, NULL};

static const kiln_backend *chosen;
static kiln_backend_info info;

static kiln_status choose(const char *name)
{
    chosen = NULL;
    return kln_backend_select_from(list, name, NULL, &chosen, &info);
}

TEST(every_registered_table_is_complete)
{
    size_t count = 0;
    for (; kln_backend_at(count) != NULL; count++) {
        assert_ok(kln_backend_check(kln_backend_at(count)));
        for (size_t other = 0; other < count; other++) {
            assert_string_not_equal(kln_backend_at(count)->name, kln_backend_at(other)->name);
        }
    }
    assert_int_equal(kiln_backend_count(), count);
}

TEST(a_table_that_lacks_an_operation_is_named)
{
    static const size_t operations[] = {
        offsetof(kiln_backend, name),
        offsetof(kiln_backend, description),
        offsetof(kiln_backend, probe),
        offsetof(kiln_backend, engine.describe),
        offsetof(kiln_backend, engine.destroy),
        offsetof(kiln_backend, context.create),
        offsetof(kiln_backend, context.destroy),
        offsetof(kiln_backend, context.bind),
        offsetof(kiln_backend, context.run),
        offsetof(kiln_backend, context.output),
    };
    assert_ok(kln_backend_check(&good));
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(operations); i++) {
        kiln_backend table = good;
        memset((unsigned char *)&table + operations[i], 0, sizeof(void *));
        assert_status(KILN_ERROR_INTERNAL, kln_backend_check(&table));
        const kiln_backend *const alone[] = {&table, NULL};
        if (table.name != NULL) {
            assert_status(KILN_ERROR_INTERNAL,
                          kln_backend_select_from(alone, "good", NULL, &chosen, &info));
        }
    }
    kiln_backend table = good;
    table.context.run = NULL;
    assert_fails(KILN_ERROR_INTERNAL, kln_backend_check(&table),
                 "backend \"good\": its table lacks `context.run`");
}

TEST(the_best_one_is_chosen_where_none_is_named)
{
    static const char *const none[] = {NULL, "", "auto"};
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(none); i++) {
        assert_ok(choose(none[i]));
        assert_ptr_equal(chosen, &better);
        assert_string_equal(info.name, "better");
        assert_int_equal(info.score, 60);
        assert_string_equal(info.version, "");
    }
}

TEST(a_name_is_kept_or_refused)
{
    assert_ok(choose("good"));
    assert_ptr_equal(chosen, &good);
    assert_string_equal(info.description, "a stand-in");
    assert_string_equal(info.version, "7.1");
    assert_ok(kln_backend_select_from(list, "good", "/opt/x.so", &chosen, &info));
    assert_string_equal(info.reason, "/opt/x.so");
    assert_fails(KILN_ERROR_LIBRARY_ABSENT, choose("absent"),
                 "backend \"absent\" cannot be used here: libbest.so is not installed");
    assert_fails(KILN_ERROR_UNSUPPORTED, choose("unfit"), "the moon is in the wrong phase");
    assert_fails(
        KILN_ERROR_NAME, choose("Good"),
        "there is no backend \"Good\"; there are \"absent\", \"good\", \"better\", \"unfit\"");
}

TEST(the_environment_stands_in_for_a_name)
{
    assert_int_equal(setenv("KILN_BACKEND", "good", 1), 0);
    assert_ok(choose(NULL));
    assert_ptr_equal(chosen, &good);
    assert_ok(choose("auto"));
    assert_ptr_equal(chosen, &better);
    assert_ok(choose("better"));
    assert_ptr_equal(chosen, &better);
    assert_int_equal(setenv("KILN_BACKEND", "godo", 1), 0);
    assert_fails(KILN_ERROR_NAME, choose(""),
                 "environment variable KILN_BACKEND: there is no backend \"godo\"");
    assert_int_equal(setenv("KILN_BACKEND", "auto", 1), 0);
    assert_ok(choose(NULL));
    assert_ptr_equal(chosen, &better);
    assert_int_equal(unsetenv("KILN_BACKEND"), 0);
}

TEST(a_library_is_used_or_refused)
{
    static const kiln_backend *const mixed[] = {&absent, &good, &built_in, NULL};
    assert_ok(kln_backend_select_from(mixed, NULL, NULL, &chosen, &info));
    assert_ptr_equal(chosen, &built_in);
    assert_ok(kln_backend_select_from(mixed, NULL, "", &chosen, &info));
    assert_ptr_equal(chosen, &built_in);
    assert_ok(kln_backend_select_from(mixed, NULL, "/opt/x.so", &chosen, &info));
    assert_ptr_equal(chosen, &good);
    assert_fails(KILN_ERROR_UNSUPPORTED,
                 kln_backend_select_from(mixed, "built-in", "/opt/x.so", &chosen, &info),
                 "backend \"built-in\" cannot be used here: it opens no library");
    static const kiln_backend *const unable[] = {&absent, &unfit, &built_in, NULL};
    assert_fails(KILN_ERROR_UNSUPPORTED,
                 kln_backend_select_from(unable, NULL, "/opt/x.so", &chosen, &info),
                 "no backend can use \"/opt/x.so\"; absent: libbest.so is not installed; "
                 "unfit: the moon is in the wrong phase");
}

/* What fails inside a call that succeeds is nobody's last failure. */
TEST(asking_leaves_the_last_sentence)
{
    assert_int_equal(setenv("KILN_ONNXRUNTIME", "/no/such/library.so", 1), 0);
    assert_int_equal(setenv("KILN_CUDA_DRIVER", "/no/such/driver.so", 1), 0);
    kiln_backend_info found = {.struct_size = sizeof found};
    kiln_system_report *report = NULL;
    assert_status(KILN_ERROR_NAME, kiln_backend_choose("none such", &found));
    for (size_t i = 0; i < kiln_backend_count(); i++) {
        assert_ok(kiln_backend_get(i, &found));
        assert_message("there is no backend \"none such\"");
    }
    assert_ok(kiln_backend_choose("auto", &found));
    assert_message("there is no backend \"none such\"");
    assert_int_equal(kiln_device_count(), 0);
    assert_message("there is no backend \"none such\"");
    assert_ok(kiln_system_report_create(&report));
    assert_message("there is no backend \"none such\"");
    kiln_system_report_destroy(report);
    assert_int_equal(unsetenv("KILN_ONNXRUNTIME"), 0);
    assert_int_equal(unsetenv("KILN_CUDA_DRIVER"), 0);
}

static char warned[256];

static void hear(void *user, kiln_log_level level, const char *component, const char *message)
{
    if (level == KILN_LOG_WARNING) {
        (void)snprintf(warned, sizeof warned, "%s", message);
    }
}

static kiln_status probe_broken(const char *library, kiln_backend_info *found)
{
    found->reason = "libbroken.so was cut short";
    return KILN_ERROR_LIBRARY_BROKEN;
}

/* What is said where `first` is no choice and `good` is. */
static const char *said_of(const kiln_backend *first, const char *library)
{
    const kiln_backend *const both[] = {first, &good, NULL};
    warned[0] = '\0';
    kiln_log_set_sink(hear, NULL, KILN_LOG_WARNING);
    assert_ok(kln_backend_select_from(both, NULL, library, &chosen, &info));
    kiln_log_set_sink(NULL, NULL, KILN_LOG_OFF);
    assert_ptr_equal(chosen, &good);
    return warned;
}

/* Who is not installed is passed over in silence; who is there and does not work, or is not where
 * the environment names it, is not. */
TEST(what_was_meant_is_passed_over_aloud)
{
    kiln_backend broken = absent;
    broken.name = "broken";
    broken.probe = probe_broken;
    assert_string_equal(said_of(&absent, NULL), "");
    assert_string_equal(said_of(&broken, NULL),
                        "broken is passed over: libbroken.so was cut short");
    assert_int_equal(setenv("KILN_NONE", "/no/such/libbest.so", 1), 0);
    assert_string_equal(said_of(&absent, NULL),
                        "absent is passed over: libbest.so is not installed");
    assert_string_equal(said_of(&absent, NULL), ""); /* once is enough */
    assert_string_equal(said_of(&unfit, NULL), "");
    assert_string_equal(said_of(&absent, "/opt/x.so"), "");
    assert_int_equal(setenv("KILN_NONE", "", 1), 0);
    assert_string_equal(said_of(&absent, NULL), "");
    assert_int_equal(unsetenv("KILN_NONE"), 0);
}

TEST(nothing_usable_is_an_error)
{
    static const kiln_backend *const poor[] = {&absent, &unfit, NULL};
    assert_fails(KILN_ERROR_UNSUPPORTED, kln_backend_select_from(poor, NULL, NULL, &chosen, &info),
                 "no backend can be used here");
    static const kiln_backend *const hungry[] = {&good, &starved, NULL};
    assert_status(KILN_ERROR_OUT_OF_MEMORY,
                  kln_backend_select_from(hungry, NULL, NULL, &chosen, &info));
}

TEST(the_public_list_checks_its_arguments)
{
    kiln_backend_info found = {.struct_size = sizeof found};
    assert_status(KILN_ERROR_INVALID_ARGUMENT, kiln_backend_get(kiln_backend_count(), &found));
    assert_status(KILN_ERROR_NAME, kiln_backend_choose("none such", &found));
    for (size_t i = 0; i < kiln_backend_count(); i++) {
        kiln_backend_info small = {.struct_size = 8};
        assert_status(KILN_ERROR_INVALID_ARGUMENT, kiln_backend_get(i, &small));
        assert_ok(kiln_backend_get(i, &found));
        assert_string_equal(found.name, kln_backend_at(i)->name);
        assert_int_equal(found.available, found.score > 0);
        assert_non_null(found.reason);
    }
}

int main(void)
{
    (void)unsetenv("KILN_BACKEND");
    return kiln_test_run();
}
