/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
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
    {"stripAllWeights", "kiln build --strip --refit all"},
    {"vc", "kiln build --version-compatible"},
    {"leanDLLPath", "--library"},
    {"useRuntime", "--library"},
    {"refitFromOnnx", "kiln run and bench --refit-from"},
    {"plugins", "kiln build --plugin"},
    {"staticPlugins", "kiln build --plugin"},
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
    {"calib", "kiln calibrate --calib, which writes such a file"},
};

const char *cli_trtexec(const char *word)
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
    for (size_t i = 0; i < CLI_ARRAY_LENGTH(words); i++) {
        if (strcmp(words[i][0], word) == 0) {
            return words[i][1];
        }
    }
    return NULL;
}
