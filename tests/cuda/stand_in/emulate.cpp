// Kernels by their PTX.
#include <cstring>
#include <deque>
#include <fstream>
#include <nlohmann/json.hpp>

#include "machine.h"
#include "tests/ptx/machine/tensor_copy.h"

namespace weft::stand_in {
namespace {

ptx::TensorMap emulated(const TensorMap& map) {
  return {map.address, map.element_bytes, map.extents, map.strides, map.box, map.exchanged};
}

}  // namespace

void Machine::emulate(const Work& work, const std::string& what) {
  Function& function = *work.function;
  // Where the test has said what a kernel may touch, that and nothing else; otherwise any memory of
  // the device.
  const std::vector<Range> allowed = ranges(work, what);
  ptx::Device device;
  device.is_global = [&](std::uint64_t address, std::int64_t bytes) {
    const std::uint64_t end = address + static_cast<std::uint64_t>(bytes);
    if (function.kernel != nullptr) {
      for (const Range& range : allowed) {
        if (address >= range.begin &&
            end <= range.begin + static_cast<std::uint64_t>(range.bytes)) {
          return true;
        }
      }
      return false;
    }
    const Allocation* allocation = find(address);
    return allocation != nullptr && allocation->kind == Allocation::Kind::device &&
           end <= allocation->begin + static_cast<std::uint64_t>(allocation->bytes);
  };
  std::deque<ptx::TensorMap> maps;
  std::map<const std::byte*, const ptx::TensorMap*> known;
  device.tensor_map = [&](const std::byte* at) -> const ptx::TensorMap* {
    const auto [entry, added] = known.try_emplace(at);
    if (added) {
      CUtensorMap map;
      std::memcpy(&map, at, sizeof map);
      const TensorMap* found = find(map);
      if (found != nullptr) entry->second = &maps.emplace_back(emulated(*found));
    }
    return entry->second;
  };
  try {
    ptx::Launch launch{.grid = work.grid,
                       .block = work.block,
                       .dynamic_shared_bytes = work.call.shared_bytes,
                       .parameters = work.parameters,
                       .seed = settings.seed,
                       .most_blocks = most_blocks};
    if (!counts_file.empty()) {
      Counted& all = counted[function.name];
      ++all.launches;
      all.blocks += work.call.grid;
      all.threads = work.call.threads;
      all.shared_bytes = work.call.shared_bytes;
      launch.counts = &all.counts;
    }
    ptx::run(*function.entry, launch, device);
  } catch (const std::exception& error) {
    violation(what + ": " + error.what());
  }
}

void Machine::write_counts() const {
  std::ofstream file(counts_file);
  for (const auto& [name, kernel] : counted) {
    nlohmann::json lines = nlohmann::json::array();
    for (const ptx::Counts::Instruction& one : kernel.counts.instructions) {
      lines.push_back({one.line, one.text, one.warps, one.threads, one.sectors, one.wavefronts});
    }
    file << nlohmann::json{{"kernel", name},
                           {"launches", kernel.launches},
                           {"blocks", kernel.blocks},
                           {"blocks_counted", kernel.counts.blocks},
                           {"threads", kernel.threads},
                           {"shared_bytes", kernel.shared_bytes},
                           {"instructions", lines}}
                .dump()
         << '\n';
  }
}

}  // namespace weft::stand_in
