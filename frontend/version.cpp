#include "compiler/ir/error.h"
