// What a driver library exports: its version, and cuGetProcAddress, which has all else.
#include <map>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "entries.h"
#include "machine.h"
#include "runtime/cuda/driver.h"

namespace weft::stand_in {
namespace {

thread_local std::vector<CUcontext> contexts;

bool contains(std::string_view text, std::initializer_list<std::string_view> parts) {
  for (const std::string_view part : parts) {
    if (text.find(part) != std::string_view::npos) return true;
  }
  return false;
}

bool needs_context(std::string_view entry) {
  return !contains(entry, {"Init", "Driver", "GetError", "Device", "CtxPush"});
}

bool acts_when_it_fails(std::string_view entry) {
  return contains(entry, {"Free", "Destroy", "Unload", "Release", "Synchronize", "CtxPop"});
}

/// What callers get of an entry point: counted, made to fail where a test says so.
template <auto function>
struct Entry;

template <typename... Arguments, CUresult (*function)(Arguments...)>
struct Entry<function> {
  static inline std::string name;

  static CUresult call(Arguments... arguments) {
    Machine& machine = Machine::get();
    const std::lock_guard lock(machine.mutex);
    const int number = ++machine.calls[name];
    const auto failure = machine.failures.find(name);
    const bool fails = failure != machine.failures.end() && failure->second.at == number;
    if (fails && !acts_when_it_fails(name)) return failure->second.result;
    if (needs_context(name) && contexts.empty()) {
      machine.violation(name + ": called without a context");
      return CUDA_ERROR_INVALID_CONTEXT;
    }
    const CUresult result = function(arguments...);
    return fails ? failure->second.result : result;
  }
};

struct Row {
  int version = 0;
  void* address = nullptr;
};

const std::map<std::string, Row>& table() {
  static const std::map<std::string, Row> rows = [] {
    std::map<std::string, Row> made;
#define WEFT_ROW(function, since)                                                             \
  static_assert(                                                                              \
      std::is_same_v<decltype(&Entry<&entry::function>::call), PFN_cu##function##_v##since>); \
  Entry<&entry::function>::name = "cu" #function;                                             \
  made["cu" #function] = {since, reinterpret_cast<void*>(&Entry<&entry::function>::call)};
    WEFT_CUDA_FUNCTIONS(WEFT_ROW)
#undef WEFT_ROW
    return made;
  }();
  return rows;
}

}  // namespace

namespace entry {

CUresult CtxPushCurrent(CUcontext context) {
  Machine& machine = Machine::get();
  if (context != reinterpret_cast<CUcontext>(&machine) || machine.retained == 0) {
    machine.violation("cuCtxPushCurrent: of a context that is not alive");
    return CUDA_ERROR_INVALID_CONTEXT;
  }
  contexts.push_back(context);
  return CUDA_SUCCESS;
}

CUresult CtxPopCurrent(CUcontext* context) {
  *context = contexts.back();
  contexts.pop_back();
  return CUDA_SUCCESS;
}

}  // namespace entry

}  // namespace weft::stand_in

extern "C" {

CUresult cuDriverGetVersion(int* version) {
  return weft::stand_in::entry::DriverGetVersion(version);
}

CUresult cuGetProcAddress_v2(const char* name, void** address, int version, cuuint64_t,
                             CUdriverProcAddressQueryResult* found) {
  const auto& rows = weft::stand_in::table();
  const auto row = rows.find(name);
  *address = nullptr;
  *found = CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND;
  if (row == rows.end()) return CUDA_ERROR_NOT_FOUND;
  // Callers are to say exactly which signature they mean.
  if (row->second.version != version) return CUDA_ERROR_NOT_FOUND;
  *address = row->second.address;
  *found = CU_GET_PROC_ADDRESS_SUCCESS;
  return CUDA_SUCCESS;
}

}  // extern "C"
