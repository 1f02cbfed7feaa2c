# Installs the build into an empty prefix, then configures, builds and runs the consumer with it.
foreach(variable WEFT_BUILD WORK CONSUMER GENERATOR COMPILER VERSION)
  if(NOT DEFINED ${variable})
    message(FATAL_ERROR "needs -D ${variable}=...")
  endif()
endforeach()

function(run what)
  execute_process(COMMAND ${ARGN} RESULT_VARIABLE result OUTPUT_VARIABLE output
    ERROR_VARIABLE output)
  if(NOT result EQUAL 0)
    message(FATAL_ERROR "${what} failed (${result}):\n${output}")
  endif()
  set(output "${output}" PARENT_SCOPE)
endfunction()

file(REMOVE_RECURSE ${WORK})
run("install" ${CMAKE_COMMAND} --install ${WEFT_BUILD} --prefix ${WORK}/prefix)
run("configuring the consumer" ${CMAKE_COMMAND} -S ${CONSUMER} -B ${WORK}/build -G ${GENERATOR}
  -D CMAKE_CXX_COMPILER=${COMPILER} -D CMAKE_PREFIX_PATH=${WORK}/prefix -D WEFT_VERSION=${VERSION}
  -D CMAKE_CXX_FLAGS=-Werror)
run("building the consumer" ${CMAKE_COMMAND} --build ${WORK}/build)
run("running the consumer" ${WORK}/build/consumer)
message("${output}")
run("running the installed command" ${WORK}/prefix/bin/weft --version)
if(NOT output MATCHES "${VERSION}")
  message(FATAL_ERROR "weft --version says ${output}")
endif()
