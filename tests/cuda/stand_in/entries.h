#pragma once

#include <cuda.h>

/// The Driver API's functions as the stand-in has them, each named without its "cu". Called with
/// the machine locked and a context where one is needed.
namespace weft::stand_in::entry {

CUresult Init(unsigned int flags);
CUresult DriverGetVersion(int* version);
CUresult GetErrorName(CUresult error, const char** text);
CUresult GetErrorString(CUresult error, const char** text);
CUresult DeviceGetCount(int* count);
CUresult DeviceGet(CUdevice* device, int ordinal);
CUresult DeviceGetName(char* name, int length, CUdevice device);
CUresult DeviceGetAttribute(int* value, CUdevice_attribute attribute, CUdevice device);
CUresult DeviceTotalMem(std::size_t* bytes, CUdevice device);
CUresult DevicePrimaryCtxRetain(CUcontext* context, CUdevice device);
CUresult DevicePrimaryCtxRelease(CUdevice device);
CUresult CtxPushCurrent(CUcontext context);
CUresult CtxPopCurrent(CUcontext* context);
CUresult MemGetInfo(std::size_t* free, std::size_t* total);
CUresult MemAlloc(CUdeviceptr* address, std::size_t bytes);
CUresult MemFree(CUdeviceptr address);
CUresult MemHostAlloc(void** address, std::size_t bytes, unsigned int flags);
CUresult MemFreeHost(void* address);
CUresult MemcpyHtoDAsync(CUdeviceptr to, const void* from, std::size_t bytes, CUstream stream);
CUresult MemcpyDtoHAsync(void* to, CUdeviceptr from, std::size_t bytes, CUstream stream);
CUresult MemcpyDtoDAsync(CUdeviceptr to, CUdeviceptr from, std::size_t bytes, CUstream stream);
CUresult MemsetD8Async(CUdeviceptr to, unsigned char value, std::size_t bytes, CUstream stream);
CUresult StreamCreate(CUstream* stream, unsigned int flags);
CUresult StreamDestroy(CUstream stream);
CUresult StreamSynchronize(CUstream stream);
CUresult StreamWaitEvent(CUstream stream, CUevent event, unsigned int flags);
CUresult StreamBeginCapture(CUstream stream, CUstreamCaptureMode mode);
CUresult StreamEndCapture(CUstream stream, CUgraph* graph);
CUresult EventCreate(CUevent* event, unsigned int flags);
CUresult EventRecord(CUevent event, CUstream stream);
CUresult EventSynchronize(CUevent event);
CUresult EventElapsedTime(float* milliseconds, CUevent from, CUevent to);
CUresult EventDestroy(CUevent event);
CUresult ModuleLoadDataEx(CUmodule* module, const void* image, unsigned int count,
                          CUjit_option* options, void** values);
CUresult ModuleUnload(CUmodule module);
CUresult ModuleGetFunction(CUfunction* function, CUmodule module, const char* name);
CUresult FuncSetAttribute(CUfunction function, CUfunction_attribute attribute, int value);
CUresult FuncGetAttribute(int* value, CUfunction_attribute attribute, CUfunction function);
CUresult LaunchKernel(CUfunction function, unsigned int grid_x, unsigned int grid_y,
                      unsigned int grid_z, unsigned int block_x, unsigned int block_y,
                      unsigned int block_z, unsigned int shared_bytes, CUstream stream,
                      void** parameters, void** extra);
CUresult GraphCreate(CUgraph* graph, unsigned int flags);
CUresult GraphDestroy(CUgraph graph);
CUresult GraphAddKernelNode(CUgraphNode* node, CUgraph graph, const CUgraphNode* after,
                            std::size_t count, const CUDA_KERNEL_NODE_PARAMS_v2* parameters);
CUresult GraphAddMemcpyNode(CUgraphNode* node, CUgraph graph, const CUgraphNode* after,
                            std::size_t count, const CUDA_MEMCPY3D_v2* copy, CUcontext context);
CUresult GraphAddEmptyNode(CUgraphNode* node, CUgraph graph, const CUgraphNode* after,
                           std::size_t count);
CUresult GraphAddChildGraphNode(CUgraphNode* node, CUgraph graph, const CUgraphNode* after,
                                std::size_t count, CUgraph child);
CUresult GraphInstantiateWithFlags(CUgraphExec* execution, CUgraph graph, unsigned long long flags);
CUresult GraphExecDestroy(CUgraphExec execution);
CUresult GraphLaunch(CUgraphExec execution, CUstream stream);
CUresult GraphUpload(CUgraphExec execution, CUstream stream);
CUresult TensorMapEncodeTiled(CUtensorMap* encoded, CUtensorMapDataType type, cuuint32_t axes,
                              void* address, const cuuint64_t* extents, const cuuint64_t* strides,
                              const cuuint32_t* box, const cuuint32_t* steps,
                              CUtensorMapInterleave interleave, CUtensorMapSwizzle swizzle,
                              CUtensorMapL2promotion promotion, CUtensorMapFloatOOBfill fill);

}  // namespace weft::stand_in::entry
