#include "tools/command.h"

namespace weft::command {

void add_dump(CLI::App&, Action&) {}

}  // namespace weft::command
