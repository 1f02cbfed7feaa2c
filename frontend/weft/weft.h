#pragma once

// Everything that a model's author needs.
#include "weft/ops.h"
#include "weft/program.h"
#include "weft/tensor.h"
#if __has_include("weft/nn.h")
#include "weft/nn.h"
#endif
#if __has_include("weft/optim.h")
#include "weft/optim.h"
#endif
#if __has_include("weft/io.h")
#include "weft/io.h"
#endif
