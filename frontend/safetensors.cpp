#include "safetensors.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <unordered_map>
#include <unordered_set>

#include "file.h"
#include "weft/io.h"

namespace weft::io {

namespace {

static_assert(std::endian::native == std::endian::little, "the format's data are little-endian");

/// A file's header, checked against its size.
struct Opened {
  explicit Opened(const std::string& path) : file(path) {
    constexpr std::uint64_t prefix = 8;
    if (file.size() < prefix) {
      throw Error(fmt::format("{}: {} bytes are too few for a header", path, file.size()));
    }
    std::array<std::byte, prefix> raw{};
    file.read(0, raw);
    std::uint64_t length = 0;
    std::memcpy(&length, raw.data(), prefix);
    if (length > max_header_bytes || length > file.size() - prefix) {
      throw Error(fmt::format("{}: a header of {} bytes in a file of {} (at most {} are allowed)",
                              path, length, file.size(), max_header_bytes));
    }
    std::vector<char> text(length);
    file.read(prefix, std::as_writable_bytes(std::span(text)));
    data_start = prefix + length;
    header = parse_header(path, text, file.size() - data_start);
  }

  InputFile file;
  Header header;
  std::uint64_t data_start = 0;
};

std::string quoted(const std::vector<std::string>& names) {
  constexpr std::size_t limit = 12;
  const std::size_t count = std::min(limit, names.size());
  const auto last = names.begin() + static_cast<std::ptrdiff_t>(count);
  return fmt::format("\"{}\"{}", fmt::join(names.begin(), last, "\", \""),
                     count < names.size() ? fmt::format(" and {} more", names.size() - count) : "");
}

/// A tensor that is being loaded: read in full before State is touched.
struct Pending {
  const StoredTensor* tensor = nullptr;
  bool add = false;
  std::vector<std::byte> bytes;
};

void check_values(const std::string& path, const Pending& pending) {
  if (pending.tensor->type.dtype != DType::boolean) return;
  const bool valid = std::all_of(pending.bytes.begin(), pending.bytes.end(),
                                 [](std::byte value) { return std::to_integer<int>(value) <= 1; });
  if (!valid) {
    throw Error(
        fmt::format("{}: tensor \"{}\": a boolean is neither 0 nor 1", path, pending.tensor->name));
  }
}

}  // namespace

void save(const std::string& path, const State& state, const SaveOptions& options) {
  const std::vector<std::string> names = options.names.empty() ? state.names() : options.names;
  std::vector<StoredTensor> tensors;
  std::unordered_set<std::string> seen;
  for (const std::string& name : names) {
    if (!state.has(name)) {
      throw Error(fmt::format("{}: tensor \"{}\" is not in State", path, name));
    }
    if (!seen.insert(name).second) {
      throw Error(fmt::format("{}: tensor \"{}\" is to be saved twice", path, name));
    }
    tensors.push_back({name, state.type(name), 0, 0});
  }
  // Large elements first: then each tensor is aligned to its elements without gaps.
  const auto alignment = [](const StoredTensor& tensor) {
    return is_complex(tensor.type.dtype) ? size_of(DType::f32) : size_of(tensor.type.dtype);
  };
  std::stable_sort(
      tensors.begin(), tensors.end(),
      [&](const StoredTensor& a, const StoredTensor& b) { return alignment(a) > alignment(b); });
  const std::string header = format_header(path, tensors, options.metadata);
  ReplacementFile file(path);
  file.write(std::as_bytes(std::span(header)));
  for (const StoredTensor& tensor : tensors) {
    file.write(state.bytes(tensor.name).first(static_cast<std::size_t>(tensor.end - tensor.begin)));
  }
  file.commit();
}

LoadResult load(const std::string& path, State& state, const LoadOptions& options) {
  const Opened opened(path);
  std::unordered_map<std::string_view, const StoredTensor*> stored;
  for (const StoredTensor& tensor : opened.header.tensors) stored.emplace(tensor.name, &tensor);

  LoadResult result;
  const std::unordered_set<std::string> selected(options.names.begin(), options.names.end());
  const auto is_selected = [&](const std::string& name) {
    return selected.empty() || selected.contains(name);
  };
  if (options.names.empty()) {
    for (const std::string& name : state.names()) {
      if (!stored.contains(name)) result.missing.push_back(name);
    }
  } else {
    for (const std::string& name : options.names) {
      if (!stored.contains(name)) result.missing.push_back(name);
    }
  }
  std::vector<Pending> pending;
  for (const StoredTensor& tensor : opened.header.tensors) {
    if (!is_selected(tensor.name)) continue;
    const bool known = state.has(tensor.name);
    if (known && state.type(tensor.name) != tensor.type) {
      throw Error(fmt::format("{}: tensor \"{}\" is {} in the file, {} in State", path, tensor.name,
                              tensor.type.text(), state.type(tensor.name).text()));
    }
    if (known || options.create) {
      pending.push_back({&tensor, !known, {}});
      result.loaded.push_back(tensor.name);
    } else {
      result.unexpected.push_back(tensor.name);
    }
  }
  if (options.strict && (!result.missing.empty() || !result.unexpected.empty())) {
    std::string what;
    if (!result.missing.empty()) what = "not in the file: " + quoted(result.missing);
    if (!result.unexpected.empty()) {
      what += (what.empty() ? "" : "; ") + ("not in State: " + quoted(result.unexpected));
    }
    throw Error(fmt::format("{}: {}", path, what));
  }

  for (Pending& entry : pending) {
    entry.bytes.resize(static_cast<std::size_t>(entry.tensor->end - entry.tensor->begin));
    opened.file.read(opened.data_start + entry.tensor->begin, entry.bytes);
    check_values(path, entry);
  }
  // From here on only memory can run out.
  std::vector<std::string> added;
  try {
    for (const Pending& entry : pending) {
      if (!entry.add) continue;
      added.push_back(entry.tensor->name);
      state.add(entry.tensor->name, entry.tensor->type);
    }
  } catch (...) {
    for (const std::string& name : added) {
      if (state.has(name)) state.remove(name);
    }
    throw;
  }
  for (const Pending& entry : pending) {
    if (entry.bytes.empty()) continue;
    std::memcpy(state.bytes(entry.tensor->name).data(), entry.bytes.data(), entry.bytes.size());
  }
  return result;
}

FileContents contents(const std::string& path) {
  const Opened opened(path);
  FileContents result;
  for (const StoredTensor& tensor : opened.header.tensors) {
    result.tensors.push_back({tensor.name, tensor.type});
  }
  result.metadata = opened.header.metadata;
  return result;
}

}  // namespace weft::io
