#pragma once

/// Layers and models: structs with a call operator on tensors. A layer is constructed inside a
/// trace, which makes its parameters:
///
///     nn::Linear hidden("hidden", 784, 128);     // parameters "hidden.weight", "hidden.bias"
///     const Tensor y = relu(hidden(x));
///
/// Names are prefixed by the enclosing Scopes and by the layer that a layer is part of
/// ("layers.0.mixer.u.weight"); the same name gives the same parameters, so that a model is
/// constructed anew in each trace (training, validation, sampling) over one State. A layer holds
/// handles: it is used in its own trace only, and copies share the parameters.
///
/// Parameters are f32. Where a layer's input is of another floating type, they are cast to it:
/// casting the input of a model to bf16 is mixed precision.
#include "weft/nn/activation.h"
#include "weft/nn/attention.h"
#include "weft/nn/layers.h"
#include "weft/nn/model.h"
#include "weft/nn/norm.h"
#include "weft/nn/tnn.h"
