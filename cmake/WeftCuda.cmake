# Support for NVIDIA's GPUs needs headers of CUDA's toolkit (12.0 or newer) and nothing to link: the
# driver and cuFFT are loaded when a program first asks for them. Sets `cuda_sources` to what weft_runtime is
# made of besides, and WEFT_WITH_CUDA.
set(WEFT_WITH_CUDA OFF)
if(WEFT_CUDA)
  find_path(WEFT_CUDA_INCLUDE cudaTypedefs.h
    HINTS ENV CUDA_HOME ENV CUDA_PATH PATHS /usr/local/cuda PATH_SUFFIXES include
      targets/x86_64-linux/include
    DOC "Folder of cuda.h, cudaTypedefs.h and cufft.h")
  if(NOT WEFT_CUDA_INCLUDE OR NOT EXISTS ${WEFT_CUDA_INCLUDE}/cuda.h OR
     NOT EXISTS ${WEFT_CUDA_INCLUDE}/cufft.h)
    message(STATUS "CUDA: no headers (cuda.h, cudaTypedefs.h, cufft.h): built without GPU support. "
      "WEFT_CUDA_INCLUDE can name their folder.")
  else()
    file(STRINGS ${WEFT_CUDA_INCLUDE}/cuda.h line REGEX "^#define CUDA_VERSION [0-9]+")
    string(REGEX MATCH "[0-9]+" cuda_version "${line}")
    if(cuda_version LESS 12000)
      message(STATUS "CUDA: the headers in ${WEFT_CUDA_INCLUDE} are of version ${cuda_version}, "
        "12000 is needed: built without GPU support")
    else()
      message(STATUS "CUDA: headers of version ${cuda_version} in ${WEFT_CUDA_INCLUDE}")
      set(WEFT_WITH_CUDA ON)
    endif()
  endif()
endif()
if(WEFT_WITH_CUDA)
  file(GLOB cuda_sources CONFIGURE_DEPENDS RELATIVE ${CMAKE_CURRENT_SOURCE_DIR}
    ${CMAKE_CURRENT_SOURCE_DIR}/runtime/cuda/*.cpp)
  list(REMOVE_ITEM cuda_sources runtime/cuda/absent.cpp)
else()
  set(cuda_sources runtime/cuda/absent.cpp)
endif()

# weft_use_cuda(TARGET): its sources may include CUDA's headers.
function(weft_use_cuda target)
  if(WEFT_WITH_CUDA)
    target_include_directories(${target} SYSTEM PRIVATE ${WEFT_CUDA_INCLUDE})
    target_link_libraries(${target} PRIVATE ${CMAKE_DL_LIBS})
  endif()
endfunction()
