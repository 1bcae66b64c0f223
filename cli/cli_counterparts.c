/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>

#include "cli.h"

/* What the options and commands of other tools are called here, for people who are used to those:
 * names separated by blanks. Build options have their own (kiln_build_option.trtexec).
 * docs/tensorrt.md and docs/cli.md list them all, and scripts/check_docs.py compares. */
static const struct {
    const char *tool;
    const char *names;
    const char *here;
} counterparts[] = {
    {"trtexec", "onnx", "the operand of kiln build, run and bench"},
    {"trtexec", "saveEngine", "kiln build --output"},
    {"trtexec", "loadEngine", "the operand of kiln run, bench and inspect"},
    {"trtexec", "minShapes optShapes maxShapes profile", "kiln build --profile NAME=MIN:OPT:MAX"},
    {"trtexec", "fp16 bf16 fp8 int4", "kiln build --precision"},
    {"trtexec", "int8 minShapesCalib optShapesCalib maxShapesCalib calibProfile",
     "kiln calibrate, then kiln build --precision int8 --ranges"},
    {"trtexec", "calib", "kiln build --precision int8 --ranges"},
    {"trtexec", "best stronglyTyped", "no need: types are the model's, or those of --precision"},
    {"trtexec", "precisionConstraints layerPrecisions layerOutputTypes",
     "kiln quantize, or a Cast in the model"},
    {"trtexec", "layerDeviceTypes", "kiln build --dla-core with --gpu-fallback"},
    {"trtexec", "memPoolSize", "kiln build --workspace, --tactic-dram, --dla-sram and the like"},
    {"trtexec", "stripAllWeights", "kiln build --strip --refit all"},
    {"trtexec", "vc", "kiln build --version-compatible"},
    {"trtexec", "leanDLLPath useRuntime", "--library"},
    {"trtexec", "monitorMemory", "kiln build --gpu-allocator kiln"},
    {"trtexec", "refitFromOnnx", "kiln run and bench --refit-from"},
    {"trtexec", "plugins staticPlugins", "kiln build --plugin"},
    {"trtexec", "shapes", "kiln run and bench --shape NAME=SHAPE"},
    {"trtexec", "loadInputs", "kiln run and bench --input NAME=FILE.npy"},
    {"trtexec", "markDebug markUnfusedTensorsAsDebugTensors saveDebugTensors saveAllDebugTensors",
     "kiln compare --first-difference"},
    {"trtexec", "warmUp", "kiln bench --warmup"},
    {"trtexec", "avgRuns percentile exportTimes", "kiln bench --json"},
    {"trtexec", "noDataTransfers", "kiln bench, which shows copies and kernels apart"},
    {"trtexec", "infStreams", "kiln bench --streams"},
    {"trtexec", "useCudaGraph", "kiln run and bench --graph"},
    {"trtexec", "timeDeserialize timeRefit", "--verbose"},
    {"trtexec", "dumpOutput", "kiln run"},
    {"trtexec", "exportOutput dumpRawBindingsToFile", "kiln run --output"},
    {"trtexec", "dumpProfile separateProfileRun", "kiln bench --layers"},
    {"trtexec", "exportProfile", "kiln bench --layers --json"},
    {"trtexec", "dumpLayerInfo", "kiln inspect --layers"},
    {"trtexec", "exportLayerInfo", "kiln inspect --layers --json"},
    {"trtexec", "dumpOptimizationProfile getPlanVersionOnly", "kiln inspect"},
    {"trtexec", "cpuOnly", "kiln build --compute-capabilities"},
    {"trtexec", "skipInference", "kiln build, which runs nothing"},
    {"polygraphy", "trt onnxrt", "--backend, and kiln compare --backends tensorrt,onnxruntime"},
    {"polygraphy", "trt-min-shapes trt-opt-shapes trt-max-shapes",
     "kiln build --profile NAME=MIN:OPT:MAX"},
    {"polygraphy", "input-shapes inputs", "kiln run, bench and compare --shape NAME=SHAPE"},
    {"polygraphy", "val-range", "--input NAME=random:LOW:HIGH"},
    {"polygraphy", "load-inputs load-input-data data-loader-script", "--input NAME=FILE.npy"},
    {"polygraphy", "save-inputs", "--seed: the same one gives the same data anywhere"},
    {"polygraphy", "save-outputs save-results", "kiln run --output"},
    {"polygraphy", "load-outputs load-results", "kiln run --compare"},
    {"polygraphy", "trt-outputs onnx-outputs", "kiln compare --first-difference"},
    {"polygraphy", "validate", "kiln run and compare, which count NaN and infinite elements"},
    {"polygraphy", "check-error-stat", "kiln compare --json"},
    {"polygraphy", "warm-up", "kiln bench --warmup"},
    {"polygraphy", "save-engine", "kiln build --output"},
    {"polygraphy", "engine", "the operand of kiln run, bench and inspect"},
    {"polygraphy", "load-timing-cache save-timing-cache", "kiln build --timing-cache"},
    {"polygraphy", "calibration-cache", "kiln calibrate --calib"},
    {"polygraphy", "builder-optimization-level", "kiln build --level"},
    {"polygraphy", "pool-limit", "kiln build --workspace, --tactic-dram and the like"},
    {"polygraphy", "tactic-sources", "kiln build --tactics"},
    {"polygraphy", "refittable", "kiln build --refit all"},
    {"polygraphy", "strip-plan", "kiln build --strip"},
    {"polygraphy", "profiling-verbosity", "kiln build --verbosity"},
    {"polygraphy", "hardware-compatibility-level", "kiln build --hardware"},
    {"polygraphy", "show", "kiln inspect --layers"},
    {"polygraphy", "convert", "kiln build"},
    {"polygraphy", "lint", "kiln check"},
    {"polygraphy", "debug", "kiln compare --first-difference"},
};

static const char *build_option(const char *word)
{
    static char line[64];
    kiln_build_option option = {.struct_size = sizeof option};
    for (size_t i = 0; i < kiln_build_option_count(); i++) {
        if (kiln_build_option_get(i, &option) == KILN_OK && option.trtexec != NULL &&
            strcmp(option.trtexec, word) == 0) {
            const char *off = strncmp(word, "no", 2) == 0 && option.choices != NULL ? " off" : "";
            (void)snprintf(line, sizeof line, "kiln build --%s%s", option.flag, off);
            return line;
        }
    }
    return NULL;
}

const char *cli_counterpart(const char *word, const char **tool)
{
    const char *found = build_option(word);
    *tool = "trtexec";
    for (size_t i = 0; found == NULL && i < CLI_ARRAY_LENGTH(counterparts); i++) {
        found = cli_has_word(counterparts[i].names, word) ? counterparts[i].here : NULL;
        *tool = counterparts[i].tool;
    }
    return found;
}
