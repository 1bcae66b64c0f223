# SPDX-License-Identifier: Apache-2.0
# Language, warnings, sanitizers and the folder of foreign libraries: what every target shares.

set(CMAKE_C_STANDARD 11)
set(CMAKE_C_STANDARD_REQUIRED ON)
set(CMAKE_C_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_C_VISIBILITY_PRESET hidden)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release)
endif()

option(KILN_WARNINGS_AS_ERRORS "Treat warnings as errors" ${PROJECT_IS_TOP_LEVEL})
option(KILN_COVERAGE "Count the lines that run (gcov)" OFF)
set(KILN_SANITIZER "" CACHE STRING "address, undefined, thread, or empty")
set_property(CACHE KILN_SANITIZER PROPERTY STRINGS "" address undefined thread)

# Where scripts/install_deps.sh puts what is not a Debian package: ONNX Runtime, models, cJSON, zlib.
set(KILN_DEPS_DIR "$ENV{KILN_DEPS_DIR}" CACHE PATH "Folder of downloaded dependencies")
if(NOT KILN_DEPS_DIR)
  set(KILN_DEPS_DIR ${CMAKE_CURRENT_SOURCE_DIR}/build/deps)
endif()
foreach(source cjson/cJSON.c zlib/inflate.c)
  if(NOT EXISTS ${KILN_DEPS_DIR}/${source})
    message(FATAL_ERROR "${KILN_DEPS_DIR}/${source} is not there: scripts/install_deps.sh gets it")
  endif()
endforeach()

# A second build of the same source costs little where ccache is installed.
if(PROJECT_IS_TOP_LEVEL AND NOT DEFINED CMAKE_C_COMPILER_LAUNCHER AND NOT KILN_COVERAGE)
  find_program(KILN_CCACHE ccache)
  if(KILN_CCACHE)
    set(CMAKE_C_COMPILER_LAUNCHER ${KILN_CCACHE})
  endif()
endif()

add_library(kiln_flags INTERFACE)
target_compile_definitions(kiln_flags INTERFACE _GNU_SOURCE)
target_compile_options(kiln_flags INTERFACE
  -Wall -Wextra -Wpedantic -Wconversion -Wsign-conversion -Wshadow -Wstrict-prototypes
  -Wmissing-prototypes -Wold-style-definition -Wcast-qual -Wwrite-strings -Wvla -Wundef
  -Wformat=2 -Wdouble-promotion -Wimplicit-fallthrough
  $<$<BOOL:${KILN_WARNINGS_AS_ERRORS}>:-Werror>)
if(KILN_SANITIZER STREQUAL "address")
  set(kiln_sanitizer_flags
    -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer)
elseif(KILN_SANITIZER STREQUAL "undefined")
  set(kiln_sanitizer_flags -fsanitize=undefined -fno-sanitize-recover=all)
elseif(KILN_SANITIZER STREQUAL "thread")
  set(kiln_sanitizer_flags -fsanitize=thread)
elseif(KILN_SANITIZER)
  message(FATAL_ERROR
    "KILN_SANITIZER is \"${KILN_SANITIZER}\": address, undefined, thread or nothing is needed")
endif()
if(KILN_FUZZ)
  if(NOT CMAKE_C_COMPILER_ID MATCHES "Clang")
    message(FATAL_ERROR "KILN_FUZZ needs clang (libFuzzer): cmake --preset fuzz")
  endif()
  list(APPEND kiln_sanitizer_flags -fsanitize=fuzzer-no-link,address,undefined,float-cast-overflow
    -fno-sanitize-recover=all)
endif()
if(kiln_sanitizer_flags AND CMAKE_C_COMPILER_ID MATCHES "Clang")
  list(APPEND kiln_sanitizer_flags -Wno-pass-failed) # checks keep loops from being vectors
endif()
target_compile_options(kiln_flags INTERFACE ${kiln_sanitizer_flags})
target_link_options(kiln_flags INTERFACE ${kiln_sanitizer_flags})
if(KILN_COVERAGE)
  # Threads count lines together.
  target_compile_options(kiln_flags INTERFACE --coverage -fprofile-update=atomic)
  target_link_options(kiln_flags INTERFACE --coverage)
endif()
