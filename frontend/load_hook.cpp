#include "load_hook.h"

namespace weft::detail {

LoadHook& load_hook() {
  static LoadHook hook;
  return hook;
}

}  // namespace weft::detail
