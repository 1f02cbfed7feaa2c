#include "runtime/cuda/driver.h"

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
  cuda::GraphBuilder graph(increment.device);
  graph.kernel(increment.launch(arguments));
  graph.kernel(increment.launch(arguments));
  graph.build(stream);
  EXPECT_EQ(first_violation(), "");
  graph.begin_branch();
  graph.kernel(increment.launch(arguments));
  graph.begin_branch();
  graph.kernel(increment.launch(arguments));
  graph.end_branches();
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

TEST_F(StandIn, SeesCallsWithoutAContext) {
  EXPECT_EQ(cuda::driver().StreamSynchronize(nullptr), CUDA_ERROR_INVALID_CONTEXT);
  EXPECT_EQ(first_violation(), "cuStreamSynchronize: called without a context");
}

}  // namespace
}  // namespace weft::runtime::testing
