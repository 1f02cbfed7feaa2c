#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "runtime/state.h"

/// Tensors in files, in the safetensors format: an 8-byte little-endian header length, a JSON
/// header, the data. c64 tensors are stored as F32 with a last axis of 2; the metadata entry
/// "weft.complex" lists their names.
namespace weft::io {

struct SaveOptions {
  std::vector<std::string> names = {};               ///< tensors to save; empty: all
  std::map<std::string, std::string> metadata = {};  ///< free text, kept in the header
};

/// Writes a State's tensors. The file is complete or not there: it is written beside `path`,
/// flushed to the disk, and renamed. Throws Error where a name is not in State or the file cannot
/// be written.
void save(const std::string& path, const State& state, const SaveOptions& options = {});

struct LoadOptions {
  std::vector<std::string> names = {};  ///< tensors to load; empty: all
  /// Error where a tensor of State (or of `names`) is not in the file, or one of the file (`names`
  /// left out) is not in State.
  bool strict = true;
  /// Adds tensors that State lacks: loading into an empty State before the first trace.
  bool create = false;
};

struct LoadResult {
  std::vector<std::string> loaded;
  std::vector<std::string> missing;     ///< wanted, but not in the file
  std::vector<std::string> unexpected;  ///< in the file, but not in State
};

/// Reads tensors into a State. The file is not trusted: everything in it is checked, and an Error
/// names the file, the tensor and what is wrong with it. Types and shapes must be those of State.
/// Where it throws, State is unchanged.
LoadResult load(const std::string& path, State& state, const LoadOptions& options = {});

struct TensorEntry {
  std::string name;
  Type type;
};
struct FileContents {
  std::vector<TensorEntry> tensors;  ///< in the order of their data
  std::map<std::string, std::string> metadata;
};
/// What is in a file, from its header alone; checked as in load().
FileContents contents(const std::string& path);

}  // namespace weft::io
