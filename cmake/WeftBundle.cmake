# The library that the programs of a bundle share: all of weft, and what it needs of LLVM's static
# libraries. Only weft's own names are seen from outside.
file(WRITE ${CMAKE_CURRENT_BINARY_DIR}/bundle.map "{ global: *4weft*; local: *; };\n")
file(WRITE ${CMAKE_CURRENT_BINARY_DIR}/bundle.cpp "")
add_library(weft_shared SHARED ${CMAKE_CURRENT_BINARY_DIR}/bundle.cpp)
set(parts weft weft_selftest weft_check weft_compiler weft_runtime weft_ops weft_ir weft_plan)
target_link_libraries(weft_shared PRIVATE -Wl,--whole-archive)
foreach(part IN LISTS parts)
  target_link_libraries(weft_shared PRIVATE $<TARGET_FILE:${part}>)
endforeach()
target_link_libraries(weft_shared PRIVATE -Wl,--no-whole-archive)
add_dependencies(weft_shared ${parts})
llvm_map_components_to_libnames(components orcjit native NVPTXCodeGen NVPTXDesc NVPTXInfo passes)
target_link_libraries(weft_shared PRIVATE ${components} fmt::fmt Threads::Threads ${CMAKE_DL_LIBS})
# LLVM was built with Z3, which nothing here calls.
target_link_options(weft_shared PRIVATE -Wl,--as-needed -Wl,--gc-sections
  -Wl,--version-script=${CMAKE_CURRENT_BINARY_DIR}/bundle.map)
set_target_properties(weft_shared PROPERTIES OUTPUT_NAME weft INSTALL_RPATH "$ORIGIN"
  LINK_DEPENDS ${CMAKE_CURRENT_BINARY_DIR}/bundle.map)
