#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <tuple>
#include <unordered_set>

#include "runtime/plan/error.h"
#include "safetensors.h"

namespace weft::io {

namespace {

using nlohmann::json;

constexpr std::string_view metadata_key = "__metadata__";
/// The metadata entry with the names of complex tensors, a JSON list.
constexpr const char* complex_key = "weft.complex";
/// Shape's own limit, and the pairs' axis of a complex tensor.
constexpr std::size_t max_stored_rank = Shape::max_rank + 1;

constexpr std::array<std::pair<std::string_view, DType>, 8> spellings = {{
    {"F32", DType::f32},
    {"F16", DType::f16},
    {"BF16", DType::bf16},
    {"F64", DType::f64},
    {"I32", DType::i32},
    {"I64", DType::i64},
    {"U8", DType::u8},
    {"BOOL", DType::boolean},
}};

std::string_view spelling_of(DType dtype) {
  if (is_complex(dtype)) dtype = DType::f32;
  for (const auto& [spelling, candidate] : spellings) {
    if (candidate == dtype) return spelling;
  }
  throw Error(fmt::format("safetensors: has no type {}", name(dtype)));
}

std::optional<DType> dtype_of(std::string_view text) {
  for (const auto& [spelling, dtype] : spellings) {
    if (spelling == text) return dtype;
  }
  return {};
}

/// At most so much of a text from a file goes into a message, and nothing that is no plain text.
std::string shown(std::string_view text) {
  constexpr std::size_t limit = 120;
  std::string result;
  for (const char c : text.substr(0, limit)) {
    const auto byte = static_cast<unsigned char>(c);
    result += byte < 0x20 || byte == 0x7f ? '?' : c;
  }
  return text.size() > limit ? result + "..." : result;
}

// ---- reading ------------------------------------------------------------------------------------

/// One tensor's entry as the JSON has it.
struct Entry {
  std::string name;
  std::optional<std::string> dtype;
  std::optional<std::vector<std::uint64_t>> shape;
  std::optional<std::vector<std::uint64_t>> offsets;
};

/// Takes the JSON apart event by event: only what the format has gets by, so that neither depth nor
/// repeated keys, which a JSON library resolves in its own way, matter.
class Events : public json::json_sax_t {
 public:
  explicit Events(std::string_view file) : file_(file) {}

  std::vector<Entry> entries;
  std::map<std::string, std::string> metadata;

  bool null() override { unexpected("null"); }
  bool boolean(bool) override { unexpected("a boolean"); }
  bool number_integer(number_integer_t value) override {
    unexpected(fmt::format("the number {}", value));
  }
  bool number_unsigned(number_unsigned_t value) override {
    if (state_ != State::numbers) unexpected(fmt::format("the number {}", value));
    if (numbers_.size() >= max_stored_rank)
      fail("\"{}\" has more than {} entries", field_, max_stored_rank);
    numbers_.push_back(value);
    return true;
  }
  bool number_float(number_float_t, const string_t& text) override {
    unexpected(fmt::format("the number {}", shown(text)));
  }
  bool string(string_t& text) override {
    if (state_ == State::metadata_value) {
      metadata.emplace(field_, text);
      state_ = State::metadata;
    } else if (state_ == State::field_value && field_ == "dtype") {
      entries.back().dtype = text;
      state_ = State::tensor;
    } else {
      unexpected(fmt::format("the text \"{}\"", shown(text)));
    }
    return true;
  }
  bool binary(binary_t&) override { unexpected("binary data"); }

  bool start_object(std::size_t) override {
    switch (state_) {
      case State::start:
        state_ = State::top;
        return true;
      case State::top_value:
        state_ = in_metadata_ ? State::metadata : State::tensor;
        return true;
      default:
        unexpected("an object");
    }
  }
  bool end_object() override {
    if (state_ == State::tensor) {
      const Entry& entry = entries.back();
      if (!entry.dtype) fail("\"dtype\" is missing");
      if (!entry.shape) fail("\"shape\" is missing");
      if (!entry.offsets) fail("\"data_offsets\" is missing");
    }
    state_ = state_ == State::top ? State::end : State::top;
    in_metadata_ = false;
    in_tensor_ = false;
    return true;
  }
  bool start_array(std::size_t) override {
    if (state_ != State::field_value || field_ == "dtype") unexpected("a list");
    numbers_.clear();
    state_ = State::numbers;
    return true;
  }
  bool end_array() override {
    Entry& entry = entries.back();
    (field_ == "shape" ? entry.shape : entry.offsets) = numbers_;
    state_ = State::tensor;
    return true;
  }
  bool key(string_t& text) override {
    switch (state_) {
      case State::top:
        top_key(text);
        state_ = State::top_value;
        return true;
      case State::metadata:
        if (metadata.contains(text)) fail("\"{}\" is there twice", shown(text));
        field_ = text;
        state_ = State::metadata_value;
        return true;
      default:
        field_key(text);
        state_ = State::field_value;
        return true;
    }
  }
  bool parse_error(std::size_t position, const std::string&,
                   const json::exception& error) override {
    fail("no JSON at byte {}: {}", position, shown(error.what()));
  }

 private:
  enum class State : std::uint8_t {
    start,
    top,
    top_value,
    metadata,
    metadata_value,
    tensor,
    field_value,
    numbers,
    end
  };

  void top_key(const std::string& text) {
    in_metadata_ = text == metadata_key;
    if (!names_.insert(text).second) {
      fail("{} is there twice", in_metadata_ ? std::string("\"__metadata__\"")
                                             : fmt::format("tensor \"{}\"", shown(text)));
    }
    if (in_metadata_) return;
    if (text.empty()) fail("a tensor has no name");
    entries.push_back({text, {}, {}, {}});
    in_tensor_ = true;
  }

  void field_key(const std::string& text) {
    const Entry& entry = entries.back();
    bool repeated = false;
    if (text == "dtype") {
      repeated = entry.dtype.has_value();
    } else if (text == "shape") {
      repeated = entry.shape.has_value();
    } else if (text == "data_offsets") {
      repeated = entry.offsets.has_value();
    } else {
      fail("\"{}\" is no field of a tensor", shown(text));
    }
    if (repeated) fail("\"{}\" is there twice", text);
    field_ = text;
  }

  template <typename... Arguments>
  [[noreturn]] void fail(fmt::format_string<Arguments...> format, Arguments&&... arguments) const {
    const std::string what = fmt::format(format, std::forward<Arguments>(arguments)...);
    const std::string where = in_tensor_
                                  ? fmt::format("tensor \"{}\": ", shown(entries.back().name))
                              : in_metadata_ ? std::string("\"__metadata__\": ")
                                             : std::string();
    throw Error(fmt::format("{}: header: {}{}", file_, where, what));
  }

  [[noreturn]] void unexpected(const std::string& what) const {
    switch (state_) {
      case State::start:
      case State::end:
      case State::top:
        fail("{} where an object should be", what);
      case State::top_value:
        fail("{} where an object should be", what);
      case State::metadata_value:
      case State::metadata:
        fail("\"{}\" is {}, not a text", shown(field_), what);
      case State::numbers:
        fail("\"{}\" has {}; expected whole numbers that are not negative", shown(field_), what);
      default:
        fail("\"{}\" is {}", shown(field_), what);
    }
  }

  std::string_view file_;
  State state_ = State::start;
  bool in_metadata_ = false;
  bool in_tensor_ = false;
  std::string field_;
  std::vector<std::uint64_t> numbers_;
  std::unordered_set<std::string> names_;
};

/// Checks one tensor and gives it its type.
class Checker {
 public:
  Checker(std::string_view file, std::uint64_t data_bytes) : file_(file), data_bytes_(data_bytes) {}

  StoredTensor check(const Entry& entry, bool is_pairs) const {
    const std::optional<DType> dtype = dtype_of(*entry.dtype);
    if (!dtype) fail(entry, "there is no dtype \"{}\"", shown(*entry.dtype));
    StoredTensor tensor;
    tensor.name = entry.name;
    tensor.type.dtype = *dtype;
    const std::uint64_t size = size_of(*dtype);
    // As State counts: every partial product has to fit, also where a later extent is 0.
    std::int64_t bytes = static_cast<std::int64_t>(size);
    std::vector<std::int64_t> extents;
    for (const std::uint64_t extent : *entry.shape) {
      if (extent > static_cast<std::uint64_t>(INT64_MAX) ||
          __builtin_mul_overflow(bytes, static_cast<std::int64_t>(extent), &bytes)) {
        fail(entry, "its shape has more bytes than can be counted");
      }
      extents.push_back(static_cast<std::int64_t>(extent));
    }
    if (is_pairs) {
      if (*dtype != DType::f32 || extents.empty() || extents.back() != 2) {
        fail(entry, "it is listed as complex, but is no F32 with a last axis of 2");
      }
      tensor.type.dtype = DType::c64;
      extents.pop_back();
    }
    if (extents.size() > static_cast<std::size_t>(Shape::max_rank)) {
      fail(entry, "it has {} axes; at most {} are supported", extents.size(), Shape::max_rank);
    }
    tensor.type.shape = Shape(std::span<const std::int64_t>(extents));
    if (entry.offsets->size() != 2) {
      fail(entry, "\"data_offsets\" has {} entries, not 2", entry.offsets->size());
    }
    tensor.begin = (*entry.offsets)[0];
    tensor.end = (*entry.offsets)[1];
    if (tensor.begin > tensor.end || tensor.end > data_bytes_) {
      fail(entry, "its data [{}, {}) are not within the file's {} bytes of data", tensor.begin,
           tensor.end, data_bytes_);
    }
    if (tensor.end - tensor.begin != static_cast<std::uint64_t>(bytes)) {
      fail(entry, "{} has {} bytes, but its data [{}, {}) have {}", tensor.type.text(), bytes,
           tensor.begin, tensor.end, tensor.end - tensor.begin);
    }
    if (tensor.begin % size != 0) {
      fail(entry, "its data start at {}, which is no multiple of {} bytes", tensor.begin, size);
    }
    return tensor;
  }

 private:
  template <typename... Arguments>
  [[noreturn]] void fail(const Entry& entry, fmt::format_string<Arguments...> format,
                         Arguments&&... arguments) const {
    throw Error(fmt::format("{}: tensor \"{}\": {}", file_, shown(entry.name),
                            fmt::format(format, std::forward<Arguments>(arguments)...)));
  }

  std::string_view file_;
  std::uint64_t data_bytes_;
};

/// The names in the metadata's list of complex tensors.
std::set<std::string> complex_names(std::string_view file, const Header& header,
                                    const std::vector<Entry>& entries) {
  const auto found = header.metadata.find(complex_key);
  if (found == header.metadata.end()) return {};
  const auto fail = [&](std::string_view what) {
    throw Error(fmt::format("{}: \"__metadata__\": \"{}\" {}", file, complex_key, what));
  };
  const auto flat = [&](int depth, json::parse_event_t, json&) {
    if (depth > 1) fail("is no list of names");
    return true;
  };
  const json list = json::parse(found->second, flat, false);
  if (!list.is_array()) fail("is no list of names");
  std::set<std::string> known;
  for (const Entry& entry : entries) known.insert(entry.name);
  std::set<std::string> names;
  for (const json& name : list) {
    if (!name.is_string()) fail("is no list of names");
    const auto& held = name.get_ref<const std::string&>();
    if (!known.contains(held)) fail(fmt::format("lists \"{}\", which is not there", shown(held)));
    if (!names.insert(held).second) fail(fmt::format("lists \"{}\" twice", shown(held)));
  }
  return names;
}

}  // namespace

Header parse_header(std::string_view file, std::span<const char> text, std::uint64_t data_bytes) {
  if (text.empty() || text.front() != '{') {
    throw Error(fmt::format("{}: header: it does not start with '{{'", file));
  }
  // A zero byte would end the JSON for the library, wherever it stands.
  if (std::find(text.begin(), text.end(), '\0') != text.end()) {
    throw Error(fmt::format("{}: header: no JSON: it has a zero byte", file));
  }
  Events events(file);
  if (!json::sax_parse(text.begin(), text.end(), &events)) {
    throw Error(fmt::format("{}: header: no JSON", file));
  }
  Header header;
  header.metadata = std::move(events.metadata);
  const std::set<std::string> pairs = complex_names(file, header, events.entries);
  header.metadata.erase(complex_key);
  const Checker checker(file, data_bytes);
  for (const Entry& entry : events.entries) {
    header.tensors.push_back(checker.check(entry, pairs.contains(entry.name)));
  }

  std::sort(header.tensors.begin(), header.tensors.end(),
            [](const StoredTensor& a, const StoredTensor& b) {
              return std::tie(a.begin, a.end, a.name) < std::tie(b.begin, b.end, b.name);
            });
  std::uint64_t covered = 0;
  const StoredTensor* previous = nullptr;
  for (const StoredTensor& tensor : header.tensors) {
    if (tensor.begin < covered) {
      throw Error(fmt::format("{}: tensor \"{}\": its data [{}, {}) overlap those of \"{}\"", file,
                              shown(tensor.name), tensor.begin, tensor.end, shown(previous->name)));
    }
    if (tensor.begin > covered) {
      throw Error(fmt::format("{}: tensor \"{}\": no tensor has the bytes [{}, {}) before its data",
                              file, shown(tensor.name), covered, tensor.begin));
    }
    covered = tensor.end;
    previous = &tensor;
  }
  if (covered != data_bytes) {
    throw Error(fmt::format("{}: no tensor has the last {} of {} bytes of data", file,
                            data_bytes - covered, data_bytes));
  }
  return header;
}

std::string format_header(std::string_view file, std::vector<StoredTensor>& tensors,
                          std::map<std::string, std::string> metadata) {
  if (metadata.contains(complex_key)) {
    throw Error(fmt::format("{}: the metadata entry \"{}\" is weft's own", file, complex_key));
  }
  try {
    json header = json::object();
    json pairs = json::array();
    for (const StoredTensor& tensor : tensors) {
      if (is_complex(tensor.type.dtype)) pairs.push_back(tensor.name);
    }
    if (!pairs.empty()) metadata[complex_key] = pairs.dump();
    if (!metadata.empty()) header[std::string(metadata_key)] = metadata;
    std::uint64_t position = 0;
    for (StoredTensor& tensor : tensors) {
      if (tensor.name == metadata_key) {
        throw Error(fmt::format("{}: no tensor can have the name \"{}\"", file, tensor.name));
      }
      std::vector<std::int64_t> shape(tensor.type.shape.begin(), tensor.type.shape.end());
      if (is_complex(tensor.type.dtype)) shape.push_back(2);
      tensor.begin = position;
      position += static_cast<std::uint64_t>(tensor.type.bytes());
      tensor.end = position;
      header[tensor.name] = {{"dtype", spelling_of(tensor.type.dtype)},
                             {"shape", shape},
                             {"data_offsets", {tensor.begin, tensor.end}}};
    }
    std::string text = header.dump();
    text.append((8 - text.size() % 8) % 8, ' ');
    if (text.size() > max_header_bytes) {
      throw Error(fmt::format("{}: a header of {} bytes; at most {} are allowed", file, text.size(),
                              max_header_bytes));
    }
    std::string result;
    for (int byte = 0; byte < 8; ++byte) {
      result += static_cast<char>(static_cast<std::uint64_t>(text.size()) >> (8 * byte) & 0xff);
    }
    return result + text;
  } catch (const json::exception& error) {
    // Names that are no UTF-8 have no JSON.
    throw Error(fmt::format("{}: header: {}", file, error.what()));
  }
}

}  // namespace weft::io
