#include "runtime/plan/error.h"
