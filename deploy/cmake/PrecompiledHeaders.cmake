# Third-party headers that most units read, compiled once per set of flags: alone, a unit with LibTorch takes 15 s
# instead of 22.
# Headers of ours are never among them, so a change of ours never invalidates one.
option(DOPPEL_PCH "Precompile third-party headers" ON)

# doppel_precompile(NAME HEADERS … [LINK …] [OPTIONS …]): a set of headers under one set of flags.
function(doppel_precompile NAME)
  cmake_parse_arguments(ARG "EXECUTABLE" "" "HEADERS;LINK;OPTIONS" ${ARGN})
  set(unit ${CMAKE_BINARY_DIR}/pch/${NAME}.cc)
  file(GENERATE OUTPUT ${unit} CONTENT "")
  add_library(doppel_pch_${NAME} OBJECT ${unit})
  target_link_libraries(doppel_pch_${NAME} PRIVATE doppel_warnings ${ARG_LINK})
  target_compile_options(doppel_pch_${NAME} PRIVATE ${ARG_OPTIONS})
  if(ARG_EXECUTABLE)
    # A precompiled header is for one kind of position-independent code.
    set_target_properties(doppel_pch_${NAME} PROPERTIES POSITION_INDEPENDENT_CODE OFF)
    target_compile_options(doppel_pch_${NAME} PRIVATE -fPIE)
  endif()
  target_precompile_headers(doppel_pch_${NAME} PRIVATE ${ARG_HEADERS})
endfunction()

# The target's flags must be those of the set.
function(doppel_use_precompiled TARGET NAME)
  if(DOPPEL_PCH AND TARGET doppel_pch_${NAME})
    target_precompile_headers(${TARGET} REUSE_FROM doppel_pch_${NAME})
  endif()
endfunction()

if(DOPPEL_PCH)
  set(base ${CMAKE_CURRENT_LIST_DIR}/pch/base.h)
  set(LINK_BASE absl::status absl::statusor absl::strings absl::str_format absl::synchronization absl::time
                absl::flat_hash_map absl::flat_hash_set absl::cleanup absl::span)
  set(TEST_OPTIONS $<$<CONFIG:Release>:-O0> $<$<CONFIG:Release>:-U_FORTIFY_SOURCE>)
  doppel_precompile(base HEADERS ${base} LINK ${LINK_BASE})
  doppel_precompile(torch HEADERS ${base} <torch/types.h> LINK ${LINK_BASE} doppel_torch)
  if(DOPPEL_TESTS)
    set(test ${base} <nlohmann/json.hpp> <gmock/gmock.h> <gtest/gtest.h>)
    set(LINK_TEST ${LINK_BASE} nlohmann_json::nlohmann_json GTest::gmock GTest::gtest)
    doppel_precompile(test EXECUTABLE HEADERS ${test} LINK ${LINK_TEST} OPTIONS ${TEST_OPTIONS})
    doppel_precompile(torch_test EXECUTABLE HEADERS ${test} <torch/types.h> LINK ${LINK_TEST} doppel_torch
                      OPTIONS ${TEST_OPTIONS})
  endif()
endif()
