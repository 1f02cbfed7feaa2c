#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace weft::compiler {

/// Keeps generated code. A key is two texts: the kernel (loop::canonical()) and all else that its
/// code depends on (code generator, target, options), a line each. What find() gives was stored
/// under an equal key, to the letter. Both are called from several threads at once, do not throw,
/// and may do nothing: then code is generated.
class ObjectCache {
 public:
  virtual ~ObjectCache() = default;
  virtual std::optional<std::string> find(std::string_view kernel, std::string_view conditions) = 0;
  virtual void store(std::string_view kernel, std::string_view conditions,
                     std::string_view code) = 0;
};

}  // namespace weft::compiler
