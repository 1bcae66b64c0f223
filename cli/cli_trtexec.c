/* SPDX-License-Identifier: Apache-2.0 */
#include <stddef.h>
#include <string.h>

#include "cli.h"

/* What trtexec's options are called here, for those who come from there. docs/tensorrt.md has all
 * of them, those that have no counterpart too. */
static const char *const words[][2] = {
    {"onnx", "the operand of kiln build, run and bench"},
    {"saveEngine", "kiln build --output"},
    {"loadEngine", "the operand of kiln run, bench and inspect"},
    {"minShapes", "kiln build --profile NAME=MIN:OPT:MAX"},
    {"optShapes", "kiln build --profile NAME=MIN:OPT:MAX"},
    {"maxShapes", "kiln build --profile NAME=MIN:OPT:MAX"},
    {"memPoolSize", "kiln build --workspace, --tactic-dram, --dla-sram and the like"},
    {"profilingVerbosity", "kiln build --verbosity"},
    {"avgTiming", "kiln build --avg-timing"},
    {"stripWeights", "kiln build --strip"},
    {"stripAllWeights", "kiln build --strip --refit all"},
    {"versionCompatible", "kiln build --version-compatible"},
    {"vc", "kiln build --version-compatible"},
    {"excludeLeanRuntime", "kiln build --exclude-lean-runtime"},
    {"leanDLLPath", "--library"},
    {"useRuntime", "--library"},
    {"sparsity", "kiln build --sparse"},
    {"noTF32", "kiln build --tf32 off"},
    {"directIO", "kiln build --direct-io"},
    {"distributiveIndependence", "kiln build --distributive-independence"},
    {"allowGPUFallback", "kiln build --gpu-fallback"},
    {"useDLACore", "kiln build --dla-core"},
    {"tacticSources", "kiln build --tactics"},
    {"noBuilderCache", "kiln build --no-timing-cache"},
    {"noCompilationCache", "kiln build --no-compilation-cache"},
    {"errorOnTimingCacheMiss", "kiln build --need-timing-cache"},
    {"timingCacheFile", "kiln build --timing-cache"},
    {"builderOptimizationLevel", "kiln build --level"},
    {"maxTactics", "kiln build --max-tactics"},
    {"hardwareCompatibilityLevel", "kiln build --hardware"},
    {"runtimePlatform", "kiln build --windows"},
    {"computeCapabilities", "kiln build --compute-capabilities"},
    {"maxAuxStreams", "kiln build --aux-streams"},
    {"allowWeightStreaming", "kiln build --weight-streaming"},
    {"tilingOptimizationLevel", "kiln build --tiling"},
    {"l2LimitForTiling", "kiln build --l2-limit"},
    {"refitFromOnnx", "kiln run and bench --refit-from"},
    {"plugins", "kiln build --plugin"},
    {"staticPlugins", "kiln build --plugin"},
    {"dynamicPlugins", "kiln build --plugin"},
    {"setPluginsToSerialize", "kiln build --plugin with --serialize-plugins"},
    {"shapes", "kiln run and bench --shape NAME=SHAPE"},
    {"loadInputs", "kiln run and bench --input NAME=FILE.npy"},
    {"useCudaGraph", "kiln run and bench --graph"},
    {"infStreams", "kiln bench --streams"},
    {"dumpProfile", "kiln bench --layers"},
    {"exportProfile", "kiln bench --layers --json"},
    {"dumpLayerInfo", "kiln inspect --layers"},
    {"exportLayerInfo", "kiln inspect --layers --json"},
    {"exportOutput", "kiln run --output"},
    {"skipInference", "kiln build, which runs nothing"},
    {"fp16", "no flag: the types in the model are those in the plan"},
    {"bf16", "no flag: the types in the model are those in the plan"},
    {"fp8", "no flag: the types in the model are those in the plan"},
    {"int4", "no flag: the types in the model are those in the plan"},
    {"best", "no flag: the types in the model are those in the plan"},
    {"stronglyTyped", "no need: it is always so"},
    {"int8", "QuantizeLinear and DequantizeLinear in the model: there is no calibrator"},
    {"calib", "QuantizeLinear and DequantizeLinear in the model: there is no calibrator"},
};

const char *cli_trtexec(const char *word)
{
    for (size_t i = 0; i < CLI_ARRAY_LENGTH(words); i++) {
        if (strcmp(words[i][0], word) == 0) {
            return words[i][1];
        }
    }
    return NULL;
}
