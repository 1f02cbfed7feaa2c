#include "runtime/cuda/driver.h"

#include <array>
#include <functional>

#include "fixture.h"
#include "runtime/cuda/device.h"
#include "runtime/cuda/devices.h"
#include "runtime/cuda/graph.h"

namespace weft::runtime::testing {
namespace {

using cuda::Device;
using cuda::DeviceHandle;
using cuda::DeviceMemory;
using cuda::Event;
using cuda::Module;
using cuda::Stream;

class CudaDriver : public Gpu {};

TEST_F(CudaDriver, WhatIsMissingIsSaid) {
  const auto load = [](const std::string& library) {
    return error_of([&] { cuda::load_driver(library); });
  };
  EXPECT_EQ(load("/none/libcuda.so.1").find("CUDA: no driver: /none/libcuda.so.1 could not be"),
            0U);
  EXPECT_EQ(load("libm.so.6").find("CUDA: libm.so.6 is no driver: "), 0U);
  stand_in::settings().version = 11080;
  EXPECT_EQ(load(WEFT_STAND_IN),
            "CUDA: the driver is too old: it is for CUDA 11.8, weft needs 12.0");
  stand_in::settings() = {};
  stand_in::settings().devices = 0;
  EXPECT_EQ(load(WEFT_STAND_IN), "CUDA: the driver (CUDA 12.4) finds no device");
  stand_in::settings() = {};
  EXPECT_EQ(load(WEFT_STAND_IN), "");
}

TEST_F(CudaDriver, ErrorsHaveTheDriversNameAndText) {
  const cuda::Driver& driver = cuda::driver();
  EXPECT_EQ(error_of([&] { driver.check(CUDA_ERROR_OUT_OF_MEMORY, "asking for {}", 7); }),
            "CUDA: asking for 7: CUDA_ERROR_OUT_OF_MEMORY: out of memory");
  EXPECT_EQ(error_of([&] { driver.check(CUDA_ERROR_INVALID_PTX, "loading"); }),
            "CUDA: loading: CUDA_ERROR_INVALID_PTX");
  EXPECT_EQ(error_of([&] { driver.check(CUDA_ERROR_UNKNOWN, "this"); }), "CUDA: this: error 999");
  EXPECT_EQ(error_of([&] { driver.check(CUDA_SUCCESS, "this"); }), "");
}

TEST_F(CudaDriver, DevicesAreListed) {
  const cuda::DeviceList list = cuda::find_devices();
  EXPECT_EQ(list.absent, "");
  EXPECT_EQ(list.driver, "12.4");
  ASSERT_EQ(list.devices.size(), 1U);
  EXPECT_EQ(list.devices[0].name, "Stand-in");
  EXPECT_EQ(list.devices[0].major, 9);
  EXPECT_EQ(list.devices[0].memory_bytes, std::int64_t{256} << 20);
  EXPECT_EQ(list.devices[0].free_bytes, std::int64_t{256} << 20);
  stand_in::fail("cuDevicePrimaryCtxRetain", 1, CUDA_ERROR_UNKNOWN);
  EXPECT_EQ(cuda::find_devices().devices.at(0).free_bytes, std::nullopt);
  stand_in::fail("cuDeviceGetName", 1, CUDA_ERROR_UNKNOWN);
  EXPECT_EQ(cuda::find_devices().absent, "CUDA: asking for the name of device 0: error 999");
}

TEST_F(CudaDriver, AModulesErrorHasTheLog) {
  const DeviceHandle device = Device::first();
  EXPECT_EQ(error_of([&] { const Module module(device, ".target sm_90a", "the code of k"); }),
            "CUDA: loading the code of k, of which the driver says \"line 1; fatal: Missing "
            ".version directive\": CUDA_ERROR_INVALID_PTX");
  const Module module(device, ptx("k", 1), "the code of k");
  EXPECT_EQ(error_of([&] { module.function("none"); }),
            "CUDA: looking for the kernel none: CUDA_ERROR_NOT_FOUND");
}

TEST_F(CudaDriver, ADeviceIsSharedAndGivenBack) {
  DeviceHandle device = Device::first();
  EXPECT_EQ(Device::first(), device);
  EXPECT_EQ(stand_in::calls("cuDevicePrimaryCtxRetain"), 1);
  device.reset();
  device = Device::first();
  EXPECT_EQ(stand_in::calls("cuDevicePrimaryCtxRetain"), 2);
}

/// What the stand-in must see, or the tests of the runtime say nothing.
class StandIn : public Gpu {
 protected:
  void TearDown() override {
    EXPECT_NE(stand_in::violations(), std::vector<std::string>());
    EXPECT_EQ(stand_in::alive(), std::vector<std::string>());
    stand_in::reset();
  }
  static std::string first_violation() {
    const std::vector<std::string> all = stand_in::violations();
    return all.empty() ? "" : all.front();
  }

  /// A kernel that changes 8 bytes.
  struct Increment {
    Increment() : module(device, ptx("increment", 1), "increment") {
      function = module.function("increment");
    }
    cuda::KernelLaunch launch(const std::vector<std::uint64_t>& arguments, std::uint32_t grid = 1,
                              std::uint32_t threads = 1, std::uint32_t shared_bytes = 0) const {
      return {&function, grid, threads, shared_bytes, arguments};
    }

    static DeviceHandle first() {
      stand_in::add_kernel("increment", {stand_in::changes(8)},
                           [](const stand_in::Call& call) { ++*call.pointer<std::int64_t>(0); });
      return Device::first();
    }
    DeviceHandle device = first();
    Device::Scope scope{*device};
    Module module;
    cuda::Function function;
  };
};

TEST_F(StandIn, SeesWorkThatNothingOrders) {
  const Increment increment;
  Stream first(increment.device);
  Stream second(increment.device);
  const Event event(increment.device);
  const DeviceMemory memory(increment.device, 64, "memory");
  const std::vector<std::uint64_t> arguments = {memory.address()};
  first.clear(memory.address(), 64);
  first.mark(event);
  second.wait_for(event);
  cuda::launch(*increment.device, second, increment.launch(arguments));
  EXPECT_EQ(first_violation(), "");
  cuda::launch(*increment.device, first, increment.launch(arguments));
  EXPECT_EQ(first_violation(),
            "launch of increment: not ordered after launch of increment, which touches the same "
            "memory");
  first.wait();
  second.wait();
}

TEST_F(StandIn, SeesHostMemoryThatIsReadLater) {
  const DeviceHandle device = Device::first();
  Stream stream(device);
  const DeviceMemory memory(device, 8, "memory");
  const StagingMemory pinned = pinned_memory(device, 8);
  *reinterpret_cast<std::int64_t*>(pinned.get()) = 1;
  stream.upload(memory.address(), {pinned.get(), 8});
  *reinterpret_cast<std::int64_t*>(pinned.get()) = 2;  // too early
  std::int64_t value = 0;
  stream.download(std::as_writable_bytes(std::span(&value, 1)), memory.address());
  EXPECT_EQ(value, 2);
  std::vector<std::byte> more(16);
  EXPECT_NE(error_of([&] { stream.download(more, memory.address()); }), "");
  EXPECT_EQ(first_violation(), "cuMemcpyDtoHAsync: goes beyond the end of an allocation");
}

TEST_F(StandIn, SeesMemoryFreedUnderWork) {
  const DeviceHandle device = Device::first();
  Stream stream(device);
  {
    const DeviceMemory memory(device, 8, "memory");
    stream.clear(memory.address(), 8);
  }
  EXPECT_EQ(first_violation(), "cuMemFree: of memory that cuMemsetD8Async may still use");
  stream.wait();
  EXPECT_EQ(stand_in::violations().back(), "cuMemsetD8Async: touches what is no device memory");
}

TEST_F(StandIn, SeesNodesThatNoEdgeOrders) {
  const Increment increment;
  Stream stream(increment.device);
  const DeviceMemory memory(increment.device, 64, "memory");
  const std::vector<std::uint64_t> arguments = {memory.address()};
  const std::vector<cuda::Touch> touches = {{memory.address(), 8, true}};
  cuda::KernelLaunch launch = increment.launch(arguments);
  cuda::GraphBuilder graph(increment.device);
  launch.touches = touches;
  graph.kernel(launch);
  graph.kernel(launch);
  graph.build(stream);
  EXPECT_EQ(first_violation(), "");
  launch.touches = {};
  graph.kernel(launch);
  graph.build(stream);
  EXPECT_EQ(first_violation(),
            "graph: increment is not ordered after increment, which touches the same memory");
}

TEST_F(StandIn, SeesLaunchesThatNoDeviceTakes) {
  const Increment increment;
  Stream stream(increment.device);
  const DeviceMemory memory(increment.device, 64, "memory");
  const std::vector<std::uint64_t> arguments = {memory.address()};
  const auto launch = [&](const cuda::KernelLaunch& kernel) {
    EXPECT_NE(error_of([&] { cuda::launch(*increment.device, stream, kernel); }), "");
    return stand_in::violations().back();
  };
  EXPECT_EQ(launch(increment.launch(arguments, 0)), "launch of increment: no such grid");
  EXPECT_EQ(launch(increment.launch(arguments, 1, 1025)), "launch of increment: no such block");
  EXPECT_EQ(launch(increment.launch(arguments, 1, 1, 49153)),
            "launch of increment: more shared memory than it has");
}

TEST_F(StandIn, SeesTensorMapsThatNoDeviceTakes) {
  const DeviceHandle device = Device::first();
  const Device::Scope scope(*device);
  const DeviceMemory memory(device, 4096, "memory");
  // f16 [8, 16, 64], boxes of [2, 4, 64], exchanged.
  struct Asked {
    CUtensorMapDataType type = CU_TENSOR_MAP_DATA_TYPE_FLOAT16;
    cuuint32_t axes = 3;
    std::uint64_t address = 0;
    std::array<cuuint64_t, 6> extents = {64, 4, 8, 1, 1, 1};
    std::array<cuuint64_t, 5> strides = {128, 512, 16, 16, 16};
    std::array<cuuint32_t, 6> box = {64, 4, 2, 1, 1, 1};
    std::array<cuuint32_t, 6> steps = {1, 1, 1, 1, 1, 1};
    CUtensorMapSwizzle swizzle = CU_TENSOR_MAP_SWIZZLE_128B;
    std::size_t shift = 0;
  };
  std::array<CUtensorMap, 2> made{};
  const auto encode = [&](const std::function<void(Asked&)>& change) {
    Asked asked;
    asked.address = memory.address();
    change(asked);
    auto* to =
        reinterpret_cast<CUtensorMap*>(reinterpret_cast<std::byte*>(made.data()) + asked.shift);
    const std::size_t before = stand_in::violations().size();
    const CUresult result = cuda::driver().TensorMapEncodeTiled(
        to, asked.type, asked.axes, reinterpret_cast<void*>(asked.address), asked.extents.data(),
        asked.strides.data(), asked.box.data(), asked.steps.data(), CU_TENSOR_MAP_INTERLEAVE_NONE,
        asked.swizzle, CU_TENSOR_MAP_L2_PROMOTION_L2_128B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
    const std::vector<std::string> all = stand_in::violations();
    EXPECT_EQ(result == CUDA_SUCCESS, all.size() == before);
    return all.size() == before ? ""
                                : all.back().substr(std::string("cuTensorMapEncodeTiled: ").size());
  };
  EXPECT_EQ(encode([](Asked&) {}), "");
  EXPECT_EQ(encode([](Asked& a) { a.shift = 32; }), "the map is not at a multiple of 64");
  EXPECT_EQ(encode([](Asked& a) { a.axes = 0; }), "no such number of axes");
  EXPECT_EQ(encode([](Asked& a) { a.axes = 6; }), "no such number of axes");
  EXPECT_EQ(encode([](Asked& a) { a.address += 8; }), "the address is no multiple of 16");
  EXPECT_EQ(encode([](Asked& a) { a.extents[1] = 0; }), "no such extent");
  EXPECT_EQ(encode([](Asked& a) { a.box[1] = 257; }), "no such box");
  EXPECT_EQ(encode([](Asked& a) { a.strides[0] = 24; }), "no such stride");
  EXPECT_EQ(encode([](Asked& a) { a.strides[1] = std::uint64_t{1} << 40; }), "no such stride");
  EXPECT_EQ(encode([](Asked& a) { a.box[0] = 4; }),
            "rows of a box that are no multiple of 16 bytes");
  EXPECT_EQ(encode([](Asked& a) { a.box[0] = 128; }),
            "rows of a box that are too long to be exchanged");
  EXPECT_EQ(encode([](Asked& a) { a.extents[2] = 9; }), "goes beyond the end of an allocation");
  EXPECT_EQ(encode([](Asked& a) { a.address -= 16; }), "touches what is no device memory");
}

TEST_F(StandIn, SeesLaunchesWithoutTheirTensorMaps) {
  const DeviceHandle device = Device::first();
  const Device::Scope scope(*device);
  Stream stream(device);
  stand_in::add_kernel("mapped", {}, [](const stand_in::Call&) {});
  const Module module(device, ptx("mapped", 0, 1), "mapped");
  const cuda::Function function = module.function("mapped");
  CUtensorMap map{};
  cuda::KernelLaunch kernel;
  kernel.function = &function;
  kernel.tensor_maps = {&map, 1};
  EXPECT_NE(error_of([&] { cuda::launch(*device, stream, kernel); }), "");
  EXPECT_EQ(first_violation(), "launch of mapped: it is given a tensor map that is none");
  {
    const DeviceMemory memory(device, 64, "memory");
    const std::array<cuuint64_t, 1> extents = {64};
    const std::array<cuuint32_t, 1> box = {64}, steps = {1};
    ASSERT_EQ(cuda::driver().TensorMapEncodeTiled(
                  &map, CU_TENSOR_MAP_DATA_TYPE_UINT8, 1, reinterpret_cast<void*>(memory.address()),
                  extents.data(), extents.data(), box.data(), steps.data(),
                  CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_NONE,
                  CU_TENSOR_MAP_L2_PROMOTION_NONE, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE),
              CUDA_SUCCESS);
    cuda::launch(*device, stream, kernel);
    stream.wait();
    EXPECT_EQ(stand_in::violations().size(), 1U);
  }
  cuda::launch(*device, stream, kernel);
  EXPECT_EQ(stand_in::violations().back(), "launch of mapped: touches what is no device memory");
  CUtensorMap altered = map;
  ++altered.opaque[5];
  kernel.tensor_maps = {&altered, 1};
  EXPECT_NE(error_of([&] { cuda::launch(*device, stream, kernel); }), "");
  EXPECT_EQ(stand_in::violations().back(),
            "launch of mapped: it is given a tensor map that is none");
  stream.wait();
}

TEST_F(StandIn, SeesCallsWithoutAContext) {
  EXPECT_EQ(cuda::driver().StreamSynchronize(nullptr), CUDA_ERROR_INVALID_CONTEXT);
  EXPECT_EQ(first_violation(), "cuStreamSynchronize: called without a context");
}

}  // namespace
}  // namespace weft::runtime::testing
