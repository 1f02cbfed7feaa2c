#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <limits>
#include <random>

#include "plain.h"
#include "weft/io.h"

namespace weft {
namespace {

namespace fs = std::filesystem;
using plain::error_of;
using plain::Values;

std::string read_file(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

void write_file(const fs::path& path, const std::string& text) {
  std::ofstream(path, std::ios::binary) << text;
}

/// A file of a header and data.
std::string file_of(const std::string& header, const std::string& data) {
  std::string result;
  for (int byte = 0; byte < 8; ++byte) {
    result += static_cast<char>(header.size() >> (8 * byte) & 0xff);
  }
  return result + header + data;
}

/// Everything in a State as text of bytes.
std::map<std::string, std::pair<std::string, std::string>> snapshot(const State& state) {
  std::map<std::string, std::pair<std::string, std::string>> result;
  for (const std::string& name : state.names()) {
    const auto bytes = state.bytes(name);
    result[name] = {state.type(name).text(),
                    std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size())};
  }
  return result;
}

State sample() {
  State state;
  int seed = 1;
  for (const DType dtype : all_dtypes) {
    const std::string name = "t." + std::string(weft::name(dtype));
    state.add(name, {dtype, {3, 2}});
    std::mt19937 random(static_cast<unsigned>(seed++));
    for (std::byte& byte : state.bytes(name)) {
      byte = static_cast<std::byte>(dtype == DType::boolean ? random() % 2 : random() % 256);
    }
  }
  state.add("scalar", {DType::f32, {}});
  state.set_values("scalar", Values{0.5});
  state.add("empty", {DType::f64, {0, 4}});
  state.add("deep", {DType::c64, {1, 1, 1, 2, 1, 1, 1, 1}});
  state.set_values("deep", Values{1, 2, 3, 4});
  return state;
}

class Safetensors : public testing::Test {
 protected:
  void SetUp() override {
    const auto* info = testing::UnitTest::GetInstance()->current_test_info();
    folder_ = fs::temp_directory_path() / (std::string("weft_safetensors_") + info->name() + "_" +
                                           std::to_string(std::random_device{}()));
    fs::create_directories(folder_);
    path_ = (folder_ / "model.safetensors").string();
  }
  void TearDown() override { fs::remove_all(folder_); }

  /// Loads a file of that header and those data into a State of "a" f32[2] and checks that it
  /// fails, says where and why, and changes nothing.
  void rejects(const std::string& header, const std::string& data, const std::string& why) {
    rejects_file(file_of(header, data), why);
  }
  void rejects_file(const std::string& content, const std::string& why) {
    write_file(path_, content);
    State state;
    state.add("a", {DType::f32, {2}});
    state.set_values("a", Values{1, 2});
    const auto before = snapshot(state);
    for (const bool create : {false, true}) {
      const std::string message =
          error_of([&] { io::load(path_, state, {.strict = false, .create = create}); });
      EXPECT_NE(message.find(path_), std::string::npos) << message;
      EXPECT_NE(message.find(why), std::string::npos) << message << "\nexpected: " << why;
      EXPECT_EQ(snapshot(state), before);
    }
    EXPECT_NE(error_of([&] { io::contents(path_); }).find(why), std::string::npos);
  }

  fs::path folder_;
  std::string path_;
};

// ---- what is saved comes back -------------------------------------------------------------------

TEST_F(Safetensors, ComesBackToTheBit) {
  const State state = sample();
  io::save(path_, state);
  State loaded = state.clone();
  for (const std::string& name : loaded.names()) {
    for (std::byte& byte : loaded.bytes(name)) byte = std::byte{0};
  }
  const io::LoadResult result = io::load(path_, loaded);
  EXPECT_EQ(snapshot(loaded), snapshot(state));
  EXPECT_EQ(result.loaded.size(), state.names().size());
  EXPECT_TRUE(result.missing.empty());
  EXPECT_TRUE(result.unexpected.empty());

  State created;
  io::load(path_, created, {.strict = false, .create = true});
  EXPECT_EQ(snapshot(created), snapshot(state));
}

TEST_F(Safetensors, HasTheFormatThatOthersRead) {
  State state;
  state.add("w", {DType::f32, {2, 1}});
  state.set_values("w", Values{1, -2});
  state.add("flag", {DType::boolean, {1}});
  state.set_values("flag", Values{1});
  state.add("half", {DType::f16, {1}});
  state.set_values("half", Values{1});
  io::save(path_, state, {.metadata = {{"format", "pt"}}});
  const std::string file = read_file(path_);
  const auto length = static_cast<std::size_t>(static_cast<unsigned char>(file[0])) +
                      256 * static_cast<std::size_t>(static_cast<unsigned char>(file[1]));
  EXPECT_EQ(length % 8, 0U);
  std::string header = file.substr(8, length);
  header.erase(header.find_last_not_of(' ') + 1);
  // The largest elements first, so that all are aligned.
  EXPECT_EQ(header, R"({"__metadata__":{"format":"pt"},)"
                    R"("flag":{"data_offsets":[10,11],"dtype":"BOOL","shape":[1]},)"
                    R"("half":{"data_offsets":[8,10],"dtype":"F16","shape":[1]},)"
                    R"("w":{"data_offsets":[0,8],"dtype":"F32","shape":[2,1]}})");
  EXPECT_EQ(file.substr(8 + length),
            std::string("\x00\x00\x80\x3f\x00\x00\x00\xc0\x00\x3c\x01", 11));
}

TEST_F(Safetensors, KeepsMetadataAndSaysWhatIsThere) {
  State state;
  state.add("z", {DType::c64, {2}});
  io::save(path_, state, {.metadata = {{"epoch", "3"}, {"\"quoted\"", "tab\t"}}});
  const io::FileContents contents = io::contents(path_);
  ASSERT_EQ(contents.tensors.size(), 1U);
  EXPECT_EQ(contents.tensors[0].name, "z");
  EXPECT_EQ(contents.tensors[0].type, (Type{DType::c64, {2}}));
  EXPECT_EQ(contents.metadata,
            (std::map<std::string, std::string>{{"epoch", "3"}, {"\"quoted\"", "tab\t"}}));
}

TEST_F(Safetensors, SelectsByName) {
  const State state = sample();
  io::save(path_, state, {.names = {"t.f32", "scalar"}});
  EXPECT_EQ(io::contents(path_).tensors.size(), 2U);
  State other;
  other.add("scalar", {DType::f32, {}});
  other.add("untouched", {DType::f32, {}});
  const io::LoadResult result = io::load(path_, other, {.names = {"scalar"}});
  EXPECT_EQ(result.loaded, std::vector<std::string>{"scalar"});
  EXPECT_EQ(other.values("scalar"), Values{0.5});
  EXPECT_EQ(other.values("untouched"), Values{0});
  EXPECT_NE(error_of([&] { io::save(path_, state, {.names = {"absent"}}); }).find("\"absent\""),
            std::string::npos);
  EXPECT_NE(
      error_of([&] { io::save(path_, state, {.names = {"scalar", "scalar"}}); }).find("twice"),
      std::string::npos);
}

TEST_F(Safetensors, StrictNamesWhatIsMissingAndUnexpected) {
  State state;
  state.add("both", {DType::f32, {}});
  state.add("file only", {DType::f32, {}});
  io::save(path_, state);
  State other;
  other.add("both", {DType::f32, {}});
  other.add("state only", {DType::f32, {}});
  const auto before = snapshot(other);
  const std::string message = error_of([&] { io::load(path_, other); });
  EXPECT_NE(message.find("not in the file: \"state only\""), std::string::npos) << message;
  EXPECT_NE(message.find("not in State: \"file only\""), std::string::npos) << message;
  EXPECT_EQ(snapshot(other), before);
  const io::LoadResult result = io::load(path_, other, {.strict = false});
  EXPECT_EQ(result.loaded, std::vector<std::string>{"both"});
  EXPECT_EQ(result.missing, std::vector<std::string>{"state only"});
  EXPECT_EQ(result.unexpected, std::vector<std::string>{"file only"});
  EXPECT_FALSE(other.has("file only"));
  EXPECT_NE(error_of([&] { io::load(path_, other, {.names = {"absent"}}); }).find("\"absent\""),
            std::string::npos);
}

TEST_F(Safetensors, TypesAndShapesMustAgree) {
  State state;
  state.add("other", {DType::f32, {}});
  state.set_values("other", Values{7});
  state.add("w", {DType::f32, {2, 3}});
  io::save(path_, state);
  for (const Type& type : {Type{DType::f32, {3, 2}}, Type{DType::f16, {2, 3}},
                           Type{DType::f32, {6}}, Type{DType::i32, {2, 3}}}) {
    State target;
    target.add("other", {DType::f32, {}});
    target.add("w", type);
    const auto before = snapshot(target);
    const std::string message = error_of([&] { io::load(path_, target); });
    EXPECT_NE(message.find("\"w\" is f32[2, 3] in the file, " + type.text() + " in State"),
              std::string::npos)
        << message;
    EXPECT_EQ(snapshot(target), before);
  }
}

TEST_F(Safetensors, ReplacesAFileAtOnceOrNotAtAll) {
  State state;
  state.add("w", {DType::f32, {}});
  io::save(path_, state);
  const std::string first = read_file(path_);
  state.set_values("w", Values{1});
  io::save(path_, state);
  EXPECT_NE(read_file(path_), first);
  const std::string second = read_file(path_);
  // A name that is no UTF-8 cannot be written.
  state.add("\xff", {DType::f32, {}});
  EXPECT_NE(error_of([&] { io::save(path_, state); }).find(path_), std::string::npos);
  EXPECT_EQ(read_file(path_), second);
  EXPECT_EQ(std::distance(fs::directory_iterator(folder_), {}), 1);
  EXPECT_NE(error_of([&] {
              io::save((folder_ / "absent" / "file").string(), state, {.names = {"w"}});
            }).find("cannot be written"),
            std::string::npos);
  // A folder is no file to replace; nothing is left behind.
  fs::create_directories(folder_ / "taken");
  EXPECT_NE(error_of([&] {
              io::save((folder_ / "taken").string(), state, {.names = {"w"}});
            }).find("taken"),
            std::string::npos);
  EXPECT_EQ(std::distance(fs::directory_iterator(folder_), {}), 2);
}

TEST_F(Safetensors, NamesAndMetadataThatTheFormatReserves) {
  State state;
  state.add("__metadata__", {DType::f32, {}});
  EXPECT_NE(error_of([&] { io::save(path_, state); }).find("__metadata__"), std::string::npos);
  State other;
  EXPECT_NE(error_of([&] {
              io::save(path_, other, {.metadata = {{"weft.complex", "[]"}}});
            }).find("weft.complex"),
            std::string::npos);
  EXPECT_FALSE(fs::exists(path_));
}

// ---- files that are not what they say -----------------------------------------------------------

const std::string good = R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})";
const std::string eight(8, '\x01');

TEST_F(Safetensors, AcceptsWhatTheRestVaries) {
  write_file(path_, file_of(good + "   ", eight));
  State state;
  state.add("a", {DType::f32, {2}});
  io::load(path_, state);
  EXPECT_EQ(std::memcmp(state.bytes("a").data(), eight.data(), 8), 0);
}

TEST_F(Safetensors, RejectsFilesThatCannotBeRead) {
  State state;
  EXPECT_NE(error_of([&] { io::load((folder_ / "absent").string(), state); }).find("absent"),
            std::string::npos);
  EXPECT_NE(error_of([&] { io::load(folder_.string(), state); }).find("no file"),
            std::string::npos);
}

TEST_F(Safetensors, RejectsWrongLengths) {
  rejects_file("", "too few");
  rejects_file("1234567", "too few");
  rejects_file(std::string(8, '\xff'), "a header of");
  rejects_file(std::string("\x10\0\0\0\0\0\0\0{}", 10), "a header of 16 bytes");
  rejects_file(std::string(8, '\0'), "does not start with");
  // Longer than the format allows, in a (sparse) file that would have it.
  write_file(path_, file_of("", ""));
  const std::uint64_t huge = 100'000'001;
  std::string prefix(8, '\0');
  std::memcpy(prefix.data(), &huge, 8);
  write_file(path_, prefix);
  fs::resize_file(path_, huge + 8);
  State state;
  EXPECT_NE(error_of([&] { io::load(path_, state); }).find("at most 100000000"), std::string::npos);
}

TEST_F(Safetensors, RejectsTruncatedAndLongerFiles) {
  const std::string whole = file_of(good, eight);
  for (std::size_t length = 0; length < whole.size(); ++length) {
    rejects_file(whole.substr(0, length), "");
  }
  rejects_file(whole + "x", "the last 1 of 9 bytes");
}

TEST_F(Safetensors, RejectsHeadersThatAreNoObject) {
  rejects("[]", "", "does not start with");
  rejects(" {}", "", "does not start with");
  rejects("{", "", "no JSON");
  rejects("{\"a\"}", "", "no JSON");
  rejects(good + "{}", eight, "no JSON");
  rejects(good + std::string(1, '\0'), eight, "no JSON");
  rejects("{\"\xff\":{}}", "", "no JSON");
  rejects("{\"a\":" + std::string(100000, '[') + "}", "", "where an object should be");
  rejects("{\"a\":" + std::string(100000, '{') + "}", "", "");
}

TEST_F(Safetensors, RejectsFieldsOfTheWrongKind) {
  const auto entry = [](const std::string& fields) { return "{\"a\":{" + fields + "}}"; };
  rejects("{\"a\":1}", "", "tensor \"a\": the number 1 where an object");
  rejects("{\"a\":null}", "", "null where an object");
  rejects(entry(R"("shape":[2],"data_offsets":[0,8])"), eight, "\"dtype\" is missing");
  rejects(entry(R"("dtype":"F32","data_offsets":[0,8])"), eight, "\"shape\" is missing");
  rejects(entry(R"("dtype":"F32","shape":[2])"), eight, "\"data_offsets\" is missing");
  rejects(entry(R"("dtype":"F32","dtype":"F32")"), eight, "\"dtype\" is there twice");
  rejects(entry(R"("dtype":"F32","shape":[2],"data_offsets":[0,8],"extra":1)"), eight,
          "\"extra\" is no field");
  rejects(entry(R"("dtype":1)"), eight, "\"dtype\" is the number 1");
  rejects(entry(R"("dtype":["F32"])"), eight, "\"dtype\" is a list");
  rejects(entry(R"("dtype":{})"), eight, "\"dtype\" is an object");
  rejects(entry(R"("shape":"2")"), eight, "\"shape\" is the text \"2\"");
  rejects(entry(R"("shape":true)"), eight, "\"shape\" is a boolean");
  rejects(entry(R"("shape":[-2])"), eight, "\"shape\" has the number -2");
  rejects(entry(R"("shape":[2.5])"), eight, "\"shape\" has the number 2.5");
  rejects(entry(R"("shape":[[2]])"), eight, "\"shape\" has a list");
  rejects(entry(R"("shape":[18446744073709551616])"), eight, "\"shape\" has the number");
  rejects(entry(R"("shape":[1,1,1,1,1,1,1,1,1,1])"), eight, "more than 9 entries");
  rejects(entry(R"("dtype":"F8","shape":[2],"data_offsets":[0,8])"), eight,
          "there is no dtype \"F8\"");
  rejects(entry(R"("dtype":"F32","shape":[2],"data_offsets":[0])"), eight, "has 1 entries, not 2");
  rejects(entry(R"("dtype":"F32","shape":[2],"data_offsets":[0,8,8])"), eight, "not 2");
  rejects("{\"\":{}}", "", "has no name");
}

TEST_F(Safetensors, RejectsRangesThatDoNotFit) {
  const auto tensor = [](const std::string& shape, const std::string& offsets,
                         const std::string& dtype = "F32") {
    return R"({"a":{"dtype":")" + dtype + R"(","shape":[)" + shape + R"(],"data_offsets":[)" +
           offsets + "]}}";
  };
  rejects(tensor("3", "0,12"), eight, "not within the file's 8 bytes");
  rejects(tensor("2", "8,0"), eight, "not within");
  rejects(tensor("2", "18446744073709551608,18446744073709551615"), eight, "not within");
  rejects(tensor("2", "0,4"), eight, "has 8 bytes, but its data [0, 4) have 4");
  rejects(tensor("1", "4,8"), eight, "no tensor has the bytes [0, 4)");
  rejects(tensor("1", "0,4"), eight, "the last 4 of 8 bytes");
  rejects(tensor("1", "2,6"), eight, "no multiple of 4 bytes");
  rejects(tensor("4611686018427387904,4", "0,8"), eight, "more bytes than can be counted");
  rejects(tensor("9223372036854775808", "0,8"), eight, "more bytes than can be counted");
  rejects(tensor("4611686018427387904,4,0", "0,0"), "", "more bytes than can be counted");
  rejects(tensor("1,1,1,1,1,1,1,1,2", "0,8"), eight, "it has 9 axes");
}

TEST_F(Safetensors, RejectsTensorsThatShareDataOrNames) {
  const std::string a = R"("a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]})";
  rejects("{" + a + "," + a + "}", eight, "tensor \"a\" is there twice");
  rejects("{" + a + R"(,"b":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})", eight.substr(0, 4),
          "overlap those of");
  rejects("{" + a + R"(,"b":{"dtype":"F32","shape":[1],"data_offsets":[8,12]}})", eight + eight,
          "no tensor has the bytes [4, 8)");
}

TEST_F(Safetensors, RejectsMetadataThatIsNoText) {
  const std::string rest = "," + good.substr(1);
  rejects("{\"__metadata__\":1" + rest, eight, "where an object should be");
  rejects("{\"__metadata__\":{\"k\":1}" + rest, eight, "\"k\" is the number 1, not a text");
  rejects("{\"__metadata__\":{\"k\":{}}" + rest, eight, "not a text");
  rejects("{\"__metadata__\":{\"k\":\"1\",\"k\":\"2\"}" + rest, eight, "\"k\" is there twice");
  rejects("{\"__metadata__\":{},\"__metadata__\":{}" + rest, eight, "is there twice");
}

TEST_F(Safetensors, RejectsListsOfComplexTensorsThatAreWrong) {
  const auto listed = [](const std::string& list) {
    return R"({"__metadata__":{"weft.complex":")" + list + "\"}," + good.substr(1);
  };
  rejects(listed("no list"), eight, "is no list of names");
  rejects(listed("{}"), eight, "is no list of names");
  rejects(listed("[1]"), eight, "is no list of names");
  rejects(listed(std::string(10000, '[')), eight, "is no list of names");
  rejects(listed(R"([\"b\"])"), eight, "lists \"b\", which is not there");
  rejects(listed(R"([\"a\",\"a\"])"), eight, "twice");
  const std::string real = R"({"__metadata__":{"weft.complex":"[\"a\"]"},)"
                           R"("a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})";
  rejects(real, eight.substr(0, 4), "no F32 with a last axis of 2");
}

TEST_F(Safetensors, RejectsBooleansThatAreNone) {
  write_file(path_, file_of(R"({"a":{"dtype":"BOOL","shape":[2],"data_offsets":[0,2]}})",
                            std::string("\x01\x02", 2)));
  State state;
  const std::string message =
      error_of([&] { io::load(path_, state, {.strict = false, .create = true}); });
  EXPECT_NE(message.find("\"a\": a boolean is neither 0 nor 1"), std::string::npos) << message;
  EXPECT_TRUE(state.names().empty());
}

TEST_F(Safetensors, MessagesStayShortAndPlain) {
  write_file(path_, file_of("{\"" + std::string(5000, 'n') + "\\u001b[31m\":1}", ""));
  State state;
  const std::string message = error_of([&] { io::load(path_, state); });
  EXPECT_LT(message.size(), 1000U);
  EXPECT_EQ(message.find('\x1b'), std::string::npos);
}

/// Any damage to a valid file: it loads in full or changes nothing.
TEST_F(Safetensors, DamagedFilesLoadInFullOrNotAtAll) {
  const State original = sample();
  io::save(path_, original, {.metadata = {{"note", "x"}}});
  const std::string valid = read_file(path_);
  std::mt19937 random(12345);
  const auto pick = [&](std::size_t count) {
    return std::uniform_int_distribution<std::size_t>(0, count - 1)(random);
  };
  int rejected = 0;
  constexpr int rounds = 4000;
  for (int round = 0; round < rounds; ++round) {
    std::string file = valid;
    const std::size_t damages = 1 + pick(3);
    for (std::size_t i = 0; i < damages && !file.empty(); ++i) {
      // Mostly in the header, where it matters.
      const std::size_t at =
          pick(4) == 0 ? pick(file.size()) : pick(std::min<std::size_t>(file.size(), 900));
      switch (pick(6)) {
        case 0:
          file[at] = static_cast<char>(random());
          break;
        case 1:
          file[at] = static_cast<char>('0' + pick(10));
          break;
        case 2:
          file.erase(at, 1 + pick(8));
          break;
        case 3:
          file.insert(at, std::string(1, "[]{},:\"0-9e."[pick(12)]));
          break;
        case 4:
          file.resize(at);
          break;
        default:
          file.insert(at, file.substr(pick(file.size()), pick(40)));
      }
    }
    write_file(path_, file);
    State state = original.clone();
    const auto before = snapshot(state);
    const io::LoadOptions options = {.strict = pick(2) == 0, .create = pick(2) == 0};
    try {
      io::load(path_, state, options);
    } catch (const Error& error) {
      ++rejected;
      ASSERT_EQ(snapshot(state), before) << error.what();
      ASSERT_NE(std::string(error.what()).find(path_), std::string::npos) << error.what();
    }
  }
  // Damage to the data alone cannot be noticed; most of the rest is.
  EXPECT_GT(rejected, rounds / 4);
}

}  // namespace
}  // namespace weft
