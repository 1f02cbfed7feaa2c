# Functions that the CMakeLists.txt files make targets with.
include(GNUInstallDirs)

# Headers are included by their paths from the repository's root; installed ones keep those paths
# in a folder of their own, beside the public weft/ headers.
set(WEFT_INTERNAL_INCLUDE ${CMAKE_INSTALL_INCLUDEDIR}/weft-internal)

# weft_library(NAME SOURCES pattern... LINK target...): a static library of all matching sources.
function(weft_library name)
  cmake_parse_arguments(ARG "" "" "SOURCES;LINK" ${ARGN})
  list(TRANSFORM ARG_SOURCES PREPEND ${CMAKE_CURRENT_SOURCE_DIR}/)
  file(GLOB files CONFIGURE_DEPENDS ${ARG_SOURCES})
  add_library(${name} STATIC ${files})
  target_link_libraries(${name} PUBLIC weft_options ${ARG_LINK})
endfunction()

# weft_use_llvm(TARGET pattern...): links LLVM; its headers are seen by the matching sources only.
function(weft_use_llvm target)
  list(TRANSFORM ARGN PREPEND ${CMAKE_CURRENT_SOURCE_DIR}/ OUTPUT_VARIABLE patterns)
  file(GLOB files CONFIGURE_DEPENDS ${patterns})
  list(TRANSFORM LLVM_INCLUDE_DIRS PREPEND "-isystem;" OUTPUT_VARIABLE flags)
  if(files)
    set_source_files_properties(${files} PROPERTIES COMPILE_OPTIONS "${flags}")
  endif()
  if(LLVM_LINK_LLVM_DYLIB AND NOT WEFT_BUNDLE)
    target_link_libraries(${target} PRIVATE LLVM)
  else()
    llvm_map_components_to_libnames(components orcjit native NVPTXCodeGen NVPTXDesc NVPTXInfo passes)
    target_link_libraries(${target} PRIVATE ${components})
  endif()
endfunction()

# weft_program(TARGET library...): a program that is made of weft and these parts of it. In a bundle
# all programs share one library, which has LLVM inside.
function(weft_program target)
  if(WEFT_BUNDLE)
    target_link_libraries(${target} PRIVATE weft_shared weft_options fmt::fmt)
    target_include_directories(${target} PRIVATE
      $<TARGET_PROPERTY:weft,INTERFACE_INCLUDE_DIRECTORIES>)
    # Of the kind that holds for what the libraries beside it need as well.
    set_target_properties(${target} PROPERTIES INSTALL_RPATH "$ORIGIN/../lib")
    target_link_options(${target} PRIVATE -Wl,--disable-new-dtags)
  else()
    target_link_libraries(${target} PRIVATE weft ${ARGN})
  endif()
endfunction()
