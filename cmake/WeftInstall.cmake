# `cmake --install`: find_package(weft) gives weft::weft, whose header is <weft/weft.h>.
include(CMakePackageConfigHelpers)

set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/weft)
set(parts options plan ir ops compiler runtime)
list(TRANSFORM parts PREPEND weft_ OUTPUT_VARIABLE libraries)
foreach(part IN LISTS parts)
  set_target_properties(weft_${part} PROPERTIES EXPORT_NAME ${part})
endforeach()

install(TARGETS weft ${libraries} EXPORT weft
  ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(DIRECTORY frontend/weft DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}
  FILES_MATCHING PATTERN "*.h")
install(DIRECTORY compiler ops runtime DESTINATION ${WEFT_INTERNAL_INCLUDE}
  FILES_MATCHING PATTERN "*.h")
if(WEFT_TOOLS)
  install(TARGETS weft_command DESTINATION ${CMAKE_INSTALL_BINDIR})
endif()

install(EXPORT weft NAMESPACE weft:: FILE weftTargets.cmake DESTINATION ${package_dir})
configure_package_config_file(cmake/weftConfig.cmake.in ${CMAKE_CURRENT_BINARY_DIR}/weftConfig.cmake
  INSTALL_DESTINATION ${package_dir})
write_basic_package_version_file(${CMAKE_CURRENT_BINARY_DIR}/weftConfigVersion.cmake
  COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/weftConfig.cmake
  ${CMAKE_CURRENT_BINARY_DIR}/weftConfigVersion.cmake DESTINATION ${package_dir})
