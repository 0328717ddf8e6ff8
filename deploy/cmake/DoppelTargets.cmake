# Several sources as one compilation: the headers of LibTorch, gRPC and GoogleTest are read once instead of many times.
# Names in anonymous namespaces are therefore unique within a target.
function(doppel_unity TARGET)
  if(DOPPEL_UNITY)
    set_target_properties(${TARGET} PROPERTIES UNITY_BUILD ON UNITY_BUILD_BATCH_SIZE ${DOPPEL_UNITY})
    if(CMAKE_CXX_COMPILER_ID STREQUAL GNU)
      # A .cc included by another looks like a header to gcc.
      target_compile_options(${TARGET} PRIVATE -Wno-subobject-linkage)
    endif()
  endif()
endfunction()

# Command lines and reports: nothing there is worth the second half of the optimiser's time.
function(doppel_cold_code)
  if(CMAKE_BUILD_TYPE STREQUAL Release)
    foreach(target ${ARGN})
      target_compile_options(${target} PRIVATE -O1)
    endforeach()
  endif()
endfunction()

# doppel_library(NAME SOURCES a.cc … [DEPS …] [PRIVATE_DEPS …]): one concept, one static library named doppel_<NAME>.
function(doppel_library NAME)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPS;PRIVATE_DEPS" ${ARGN})
  add_library(doppel_${NAME} STATIC ${ARG_SOURCES})
  target_include_directories(doppel_${NAME} PUBLIC ${CMAKE_SOURCE_DIR})
  doppel_unity(doppel_${NAME})
  target_link_libraries(doppel_${NAME} PUBLIC ${ARG_DEPS} PRIVATE doppel_warnings ${ARG_PRIVATE_DEPS})
endfunction()

# doppel_binary(NAME SOURCES … DEPS …): an executable with that very name.
function(doppel_binary NAME)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPS" ${ARGN})
  add_executable(${NAME} ${ARG_SOURCES})
  doppel_unity(${NAME})
  target_link_libraries(${NAME} PRIVATE doppel_warnings ${ARG_DEPS})
  set_target_properties(${NAME} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bin)
endfunction()

# doppel_test(NAME SOURCES … DEPS …): a GoogleTest binary, which is one ctest test labelled "unit".
# ONE_THREAD: heavy units in which no thread of ours runs; the thread sanitizer has nothing to see there.
# All unit test binaries hang on the target `unit_tests`, which is what the sanitizer presets build.
function(doppel_test NAME)
  cmake_parse_arguments(ARG "ONE_THREAD" "TIMEOUT" "SOURCES;DEPS;LABELS" ${ARGN})
  if(ARG_ONE_THREAD AND DOPPEL_SANITIZE STREQUAL "thread")
    return()
  endif()
  if(NOT ARG_LABELS)
    set(ARG_LABELS unit)
  endif()
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 300)
  endif()
  add_executable(${NAME} ${ARG_SOURCES})
  doppel_unity(${NAME})
  target_link_libraries(${NAME} PRIVATE doppel_warnings ${ARG_DEPS} GTest::gmock GTest::gtest_main)
  set_target_properties(${NAME} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
  if(CMAKE_BUILD_TYPE STREQUAL Release)
    # The test code itself need not be fast, but it is half of what is compiled. (FORTIFY wants an optimiser.)
    target_compile_options(${NAME} PRIVATE -O0 -U_FORTIFY_SOURCE)
  endif()
  set(environment "OMP_WAIT_POLICY=passive")
  if(DOPPEL_SANITIZE STREQUAL "thread")
    list(APPEND environment "OMP_NUM_THREADS=1"
         "TSAN_OPTIONS=ignore_noninstrumented_modules=1:suppressions=${CMAKE_SOURCE_DIR}/tests/support/tsan.supp")
  elseif(DOPPEL_SANITIZE STREQUAL "address")
    list(APPEND environment "ASAN_OPTIONS=detect_odr_violation=0"
         "LSAN_OPTIONS=suppressions=${CMAKE_SOURCE_DIR}/tests/support/lsan.supp")
  endif()
  # Starting a process costs up to a second with LibTorch: one for the whole binary, not one for each TEST.
  if(DOPPEL_SANITIZE)
    set(ARG_TIMEOUT 900)
  endif()
  add_test(NAME ${NAME} COMMAND ${NAME} --gtest_brief=1)
  set_tests_properties(${NAME} PROPERTIES LABELS "${ARG_LABELS}" TIMEOUT ${ARG_TIMEOUT} ENVIRONMENT "${environment}")
  if("unit" IN_LIST ARG_LABELS)
    add_dependencies(unit_tests ${NAME})
  endif()
endfunction()
if(NOT TARGET unit_tests)
  add_custom_target(unit_tests)
endif()
