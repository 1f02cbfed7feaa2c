#pragma once

#include <string>

#include "compiler/codegen/codegen.h"
#include "compiler/object_cache.h"

namespace weft::compiler {

/// generate_host() for a kernel whose canonical text is `canonical`, or what `cache` (may be
/// nullptr) kept of it; `cached` says which. Code of the cache is looked at before it is believed:
/// it must be an object file of this machine that defines the functions that are wanted.
GeneratedCode generate_cached(const loop::Kernel& kernel, const std::string& canonical,
                              const std::string& symbol, const HostTarget& target,
                              const CodegenOptions& options, ObjectCache* cache, bool& cached);

/// The same of generate_device(): what the cache has must be text with an entry for each phase.
GeneratedDeviceCode generate_device_cached(const loop::Kernel& kernel, const std::string& canonical,
                                           const std::string& symbol, const DeviceTarget& target,
                                           const CodegenOptions& options, ObjectCache* cache,
                                           bool& cached);

}  // namespace weft::compiler
