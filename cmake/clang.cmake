# SPDX-License-Identifier: Apache-2.0
# The presets' way to clang: as a toolchain file, for a preset cannot ask which versions there are.
if(NOT DEFINED CMAKE_C_COMPILER)
  execute_process(COMMAND ${CMAKE_CURRENT_LIST_DIR}/../scripts/find_clang.sh
    OUTPUT_VARIABLE CMAKE_C_COMPILER OUTPUT_STRIP_TRAILING_WHITESPACE
    ERROR_VARIABLE kiln_no_clang RESULT_VARIABLE kiln_clang_status)
  if(NOT kiln_clang_status EQUAL 0)
    message(FATAL_ERROR "${kiln_no_clang}")
  endif()
endif()
