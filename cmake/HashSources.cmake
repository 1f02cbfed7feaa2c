# cmake -D OUTPUT=file.cpp -D SOURCES=a,b,... -P HashSources.cmake: a source that defines
# weft::compiler::codegen_sources, a hash of the files' contents: machine code is cached on disk,
# and what other sources generated is not taken for theirs.
string(REPLACE "," ";" SOURCES "${SOURCES}")
list(SORT SOURCES)
set(hashes "")
foreach(source IN LISTS SOURCES)
  get_filename_component(name ${source} NAME)
  file(SHA256 ${source} hash)
  string(APPEND hashes "${name} ${hash}\n")
endforeach()
string(SHA256 hash "${hashes}")
string(SUBSTRING ${hash} 0 32 hash)
file(CONFIGURE OUTPUT ${OUTPUT} CONTENT
  "namespace weft::compiler {\nextern const char* const codegen_sources;\nconst char* const codegen_sources = \"${hash}\";\n}  // namespace weft::compiler\n")
