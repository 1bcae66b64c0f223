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

option(KILN_WARNINGS_AS_ERRORS "Treat warnings as errors" ON)
option(KILN_COVERAGE "Count the lines that run (gcov)" OFF)
set(KILN_SANITIZER "" CACHE STRING "address, undefined, thread, or empty")
# Where scripts/install_deps.sh puts what is not a Debian package: ONNX Runtime, models, cJSON's source.
set(KILN_DEPS_DIR "$ENV{KILN_DEPS_DIR}" CACHE PATH "Folder of downloaded dependencies")
if(NOT KILN_DEPS_DIR)
  set(KILN_DEPS_DIR ${CMAKE_SOURCE_DIR}/build/deps)
endif()

add_library(kiln_flags INTERFACE)
target_compile_definitions(kiln_flags INTERFACE _GNU_SOURCE)
target_compile_options(kiln_flags INTERFACE
  -Wall -Wextra -Wpedantic -Wconversion -Wsign-conversion -Wshadow -Wstrict-prototypes
  -Wmissing-prototypes -Wold-style-definition -Wcast-qual -Wwrite-strings -Wvla -Wundef
  -Wformat=2 -Wdouble-promotion -Wimplicit-fallthrough
  $<$<BOOL:${KILN_WARNINGS_AS_ERRORS}>:-Werror>)
if(KILN_SANITIZER STREQUAL "address")
  set(kiln_sanitizer_flags -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer)
elseif(KILN_SANITIZER STREQUAL "undefined")
  set(kiln_sanitizer_flags -fsanitize=undefined -fno-sanitize-recover=all)
elseif(KILN_SANITIZER STREQUAL "thread")
  set(kiln_sanitizer_flags -fsanitize=thread)
elseif(KILN_SANITIZER)
  message(FATAL_ERROR "KILN_SANITIZER is \"${KILN_SANITIZER}\": address, undefined or thread is needed")
endif()
if(KILN_FUZZ)
  list(APPEND kiln_sanitizer_flags -fsanitize=fuzzer-no-link,address,undefined)
endif()
target_compile_options(kiln_flags INTERFACE ${kiln_sanitizer_flags})
target_link_options(kiln_flags INTERFACE ${kiln_sanitizer_flags})
if(KILN_COVERAGE)
  target_compile_options(kiln_flags INTERFACE --coverage)
  target_link_options(kiln_flags INTERFACE --coverage)
endif()
