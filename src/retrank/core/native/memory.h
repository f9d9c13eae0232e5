// Memory that a thread keeps for its next call: fresh memory costs a page fault every 4 KiB.
#pragma once
#include <cstdint>
#include <cstdlib>
#include <new>

static inline float *scratch_memory(int64_t floats) {
    struct Kept {
        float *start = nullptr;
        int64_t size = 0;
        ~Kept() { free(start); }
    };
    static thread_local Kept kept;
    if (floats > kept.size) {
        free(kept.start);
        kept.size = (floats + 15) / 16 * 16;  // whole cache lines
        kept.start = static_cast<float *>(aligned_alloc(64, kept.size * 4));
        if (!kept.start) {
            kept.size = 0;
            throw std::bad_alloc();
        }
    }
    return kept.start;
}
