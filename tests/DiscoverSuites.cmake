# Read by ctest. Sets `folder`, `executable`, `suites` and `timeout` come from the including file.
# Lists the executable's tests when it is newer than the list, and adds one ctest entry for each
# suite; a suite of many tests (parametrised ones) is split into shards that can run side by side.
set(tests_a_shard 24)
set(most_shards 8)

if(NOT EXISTS ${executable})
  add_test(${folder}/not_built ${executable})
  set_tests_properties(${folder}/not_built PROPERTIES LABELS ${folder})
  return()
endif()

if(NOT EXISTS ${suites} OR ${executable} IS_NEWER_THAN ${suites})
  execute_process(COMMAND ${executable} --gtest_list_tests
    OUTPUT_VARIABLE listing ERROR_VARIABLE errors RESULT_VARIABLE result TIMEOUT 60)
  if(NOT result EQUAL 0)
    message(FATAL_ERROR "${executable} --gtest_list_tests failed (${result}):\n${errors}")
  endif()
  # Parameters are printed after a '#' and may hold anything.
  string(REGEX REPLACE "#[^\n]*" "" listing "${listing}")
  string(REGEX REPLACE "[];[]" "_" listing "${listing}")
  string(REPLACE "\n" ";" listing "${listing}")
  set(names)
  foreach(line IN LISTS listing)
    if(line MATCHES "^([^ ]+)\\.")
      set(suite ${CMAKE_MATCH_1})
      list(APPEND names ${suite})
      set(count_${suite} 0)
    elseif(line MATCHES "^  [^ ]")
      math(EXPR count_${suite} "${count_${suite}} + 1")
    endif()
  endforeach()

  set(script "")
  foreach(suite IN LISTS names)
    math(EXPR shards "(${count_${suite}} + ${tests_a_shard} - 1) / ${tests_a_shard}")
    if(shards GREATER most_shards)
      set(shards ${most_shards})
    endif()
    math(EXPR last "${shards} - 1")
    foreach(shard RANGE ${last})
      set(name "${folder}/${suite}")
      # Tests see no code but their own, and leave none.
      set(environment "WEFT_CACHE=off")
      if(shards GREATER 1)
        math(EXPR number "${shard} + 1")
        string(APPEND name ".${number}of${shards}")
        string(APPEND environment ";GTEST_TOTAL_SHARDS=${shards};GTEST_SHARD_INDEX=${shard}")
      endif()
      string(APPEND script
        "add_test([=[${name}]=] [=[${executable}]=] [=[--gtest_filter=${suite}.*]=])\n"
        "set_tests_properties([=[${name}]=] PROPERTIES LABELS ${folder} TIMEOUT ${timeout}"
        " ENVIRONMENT \"${environment}\")\n")
    endforeach()
  endforeach()
  file(WRITE ${suites}.new "${script}")
  file(RENAME ${suites}.new ${suites})
endif()
include(${suites})
