# Compiler settings of our own code. Debian's libraries are built without NDEBUG surprises, so we follow CMake's types.
set(CMAKE_CXX_STANDARD 17)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "" FORCE)
endif()

find_program(CCACHE ccache)
if(CCACHE)
  # Units with a precompiled header are cached only with this much trust. What a unit reads is asked of the compiler,
  # which spares a run of the preprocessor.
  set(CMAKE_CXX_COMPILER_LAUNCHER
      ${CMAKE_COMMAND} -E env CCACHE_DEPEND=1 CCACHE_SLOPPINESS=pch_defines,time_macros ${CCACHE})
  set(CMAKE_C_COMPILER_LAUNCHER ${CCACHE})
endif()
find_program(MOLD mold)
if(MOLD)
  add_link_options(-fuse-ld=mold)
endif()

# Heavy units take 1.5 GB each: two at once at most.
set_property(GLOBAL PROPERTY JOB_POOLS torch=2)

set(DOPPEL_UNITY "" CACHE STRING "Sources of a target that are compiled as one; empty: each for itself")

# Interface of every target of ours; generated code does not link it.
add_library(doppel_warnings INTERFACE)
target_compile_options(doppel_warnings INTERFACE -Wall -Wextra -Werror -Wno-unused-parameter)
if(CMAKE_CXX_COMPILER_ID MATCHES Clang)
  target_compile_options(doppel_warnings INTERFACE -Wthread-safety)
endif()

# Everywhere, because it is a macro too: units share precompiled headers.
add_compile_options(-pthread)

set(CMAKE_CXX_FLAGS_RELEASE "-O2 -DNDEBUG")
set(CMAKE_CXX_FLAGS_DEBUG "-O0 -g1")

if(DOPPEL_SANITIZE STREQUAL "address")
  # fuzzer-no-link: coverage for libFuzzer, whose main is in tests/fuzz alone.
  add_compile_options(-fsanitize=address,undefined,fuzzer-no-link -fno-sanitize=vptr,function -fno-sanitize-recover=undefined
                      -fno-omit-frame-pointer -O0 -g1)
  add_link_options(-fsanitize=address,undefined -fno-sanitize=vptr,function)
elseif(DOPPEL_SANITIZE STREQUAL "thread")
  add_compile_options(-fsanitize=thread -fno-omit-frame-pointer -O0 -g1)
  add_link_options(-fsanitize=thread)
elseif(DOPPEL_SANITIZE)
  message(FATAL_ERROR "DOPPEL_SANITIZE=${DOPPEL_SANITIZE}: expected empty, address or thread")
endif()

# What makes a mistake in memory harder to use. Kernels do not notice (docs/security.md has figures); off under sanitizers, which
# check more. The release preset turns it on.
option(DOPPEL_HARDENING "Hardening flags: FORTIFY, stack protector, PIE, full RELRO, CET" OFF)
if(DOPPEL_HARDENING AND NOT DOPPEL_SANITIZE)
  add_compile_options(-fstack-protector-strong -fstack-clash-protection)
  add_compile_options($<$<CONFIG:Release,RelWithDebInfo>:-U_FORTIFY_SOURCE> $<$<CONFIG:Release,RelWithDebInfo>:-D_FORTIFY_SOURCE=2>)
  if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
    add_compile_options(-fcf-protection=full)
  endif()
  add_link_options(-Wl,-z,relro -Wl,-z,now -Wl,-z,noexecstack)
  # CMake compiles for PIE (POSITION_INDEPENDENT_CODE), and links for it only if asked to check.
  include(CheckPIESupported)
  check_pie_supported(LANGUAGES CXX)
endif()
