// The best candidates of each query. Scores never leave the registers they were computed in, but for the few that may
// be among the best.
#include <cmath>
#include <functional>
#include <memory>

#include "tiles.h"

namespace {
constexpr int64_t WORK = 1 << 20;  // multiplications that are worth a thread
constexpr int64_t GAP = 8;         // panels in a row that are read though nobody may get their candidates

typedef int8_t ByteVec __attribute__((vector_size(LANES)));

// Score and row in one integer, which orders by score, then by row; the layout is that of ops/top_k.py.
int64_t key_of(float score, int64_t row) {
    score += 0.0f;  // -0 is 0
    int32_t bits;
    memcpy(&bits, &score, sizeof bits);
    if (bits < 0) bits ^= 0x7fffffff;
    return int64_t(uint64_t(uint32_t(bits)) << 32 | uint64_t(0xffffffff - row));
}

float score_of(int64_t key) {
    int32_t bits = int32_t(key >> 32);
    if (bits < 0) bits ^= 0x7fffffff;
    float score;
    memcpy(&score, &bits, sizeof score);
    return score;
}

const int64_t MISSING = key_of(-INFINITY, 0);

struct Lists {  // rows of candidates, one list a query, or no lists
    const int64_t *values, *offsets;

    bool given() const { return offsets; }  // `values` is null where all lists are empty

    void distinct_rows(int64_t query, std::vector<int64_t> &rows) const {
        distinct(values + offsets[query], values + offsets[query + 1], rows);
    }
};

// Which candidates between two rows a query may get.
class Rule {
    int64_t first;
    std::vector<int64_t> excluded;  // in order; or,
    std::vector<uint64_t> bits;     // where there are many or only some are allowed, a bit for each candidate

    template <typename Do>
    void within(const std::vector<int64_t> &rows, int64_t last, Do &&run) const {
        for (auto row = std::lower_bound(rows.begin(), rows.end(), first); row != rows.end() && *row <= last; ++row)
            run(*row - first);
    }

public:
    Rule(const Lists &exclude, const Lists &allow, int64_t query, int64_t first, int64_t last) : first(first) {
        const int64_t size = last - first + 1;
        if (exclude.given()) exclude.distinct_rows(query, excluded);
        if (!allow.given() && int64_t(excluded.size()) * 64 <= size) return;
        bits.assign((size + 63) / 64, allow.given() ? 0 : ~uint64_t(0));
        if (allow.given()) {
            std::vector<int64_t> allowed;
            allow.distinct_rows(query, allowed);
            within(allowed, last, [&](int64_t at) { bits[at / 64] |= uint64_t(1) << at % 64; });
        }
        within(excluded, last, [&](int64_t at) { bits[at / 64] &= ~(uint64_t(1) << at % 64); });
    }

    bool permits(int64_t row) const {
        if (!bits.empty()) return bits[(row - first) / 64] >> (row - first) % 64 & 1;
        return excluded.empty() || !std::binary_search(excluded.begin(), excluded.end(), row);
    }
};

// Write the k best keys, in order; behind them MISSING. `all` is changed.
void take_best(std::vector<int64_t> &all, int64_t k, int64_t *best) {
    if (int64_t(all.size()) < k) all.resize(k, MISSING);
    std::partial_sort_copy(all.begin(), all.end(), best, best + k, std::greater<int64_t>());
}

// The best candidates so far of a block of queries.
class Contest {
    int64_t k, capacity;
    std::unique_ptr<int64_t[]> keys;  // (queries, capacity), not in order
    std::vector<int64_t> used;

public:
    std::vector<float> bound;  // what a score must exceed to enter
    std::vector<Rule> rules;   // one a query, or none

    Contest(int64_t count, int64_t k, int64_t num_candidates, const int64_t *best)
        : k(k), capacity(k + std::min(std::max<int64_t>(k, 64), num_candidates)),  // the worst are thrown out rarely
          keys(new int64_t[count * capacity]), used(count), bound(count + ROWS, INFINITY) {
        for (int64_t query = 0; query < count; query++) bound[query] = score_of(best[query * k + k - 1]);
    }

    void enter(int64_t query, float score, int64_t row) {
        if (!rules.empty() && !rules[query].permits(row)) return;
        int64_t *mine = keys.get() + query * capacity;
        mine[used[query]++] = key_of(score, row);
        if (used[query] < capacity) return;
        std::nth_element(mine, mine + k - 1, mine + capacity, std::greater<int64_t>());
        used[query] = k;
        bound[query] = score_of(mine[k - 1]);
    }

    void append_to(std::vector<int64_t> &all, int64_t query) const {
        const int64_t *mine = keys.get() + query * capacity;
        all.insert(all.end(), mine, mine + used[query]);
    }
};

// Candidates between two panels, and which of them anyone may get.
struct Segment {
    const float *panels;
    int64_t num_candidates, first_row;
    const int64_t *rows;      // of the candidates; null: they are consecutive, from first_row on
    const bool *allowed;     // or null
    int64_t first_panel, last_panel;

    int64_t row_of(int64_t place) const { return rows ? rows[place] : first_row + place; }

    // Return the first panel from one on in which there is a candidate, and its lanes.
    int64_t next(int64_t panel, IntVec (&lanes)[2]) const {
        while (panel < last_panel && !open(panel, lanes)) panel++;
        return panel;
    }

    // Return whether there is a candidate, for all lanes.
    bool open(int64_t panel, IntVec (&lanes)[2]) const {
        const int64_t first = panel * WIDTH, count = std::min<int64_t>(WIDTH, num_candidates - first);
        if (!allowed && count == WIDTH) return lanes[0] = lanes[1] = ~IntVec{}, true;
        int8_t bytes[WIDTH] = {};
        if (!allowed)
            memset(bytes, 1, count);
        else if (count == WIDTH)
            memcpy(bytes, allowed + first, WIDTH);
        else
            memcpy(bytes, allowed + first, count);
        for (int half = 0; half < 2; half++) {
            ByteVec some;
            memcpy(&some, bytes + half * LANES, LANES);
            lanes[half] = -__builtin_convertvector(some, IntVec);
        }
        return any(lanes[0] | lanes[1]);
    }
};

// Read on where nothing is wanted: the processor fetches ahead only while there is no gap, which costs more than it saves.
inline void pass_over(const float *from, int64_t count) {
    float sum = 0;
    for (int64_t at = 0; at < count; at += 16) sum += from[at];
    [[maybe_unused]] volatile float read = sum;  // or the compiler would leave it out
}

template <int COUNT>
inline void offer(const Tile &tile, const float *panel, int64_t dim, const IntVec (&open)[2], const Segment &segment,
                  int64_t first, Contest &contest) {
    Vec scores[COUNT][2];
    score_tile<COUNT>(tile.packed, panel, dim, scores);
    IntVec enters[COUNT], some = {};
#pragma GCC unroll 16
    for (int row = 0; row < COUNT; row++) {
        const float bound = contest.bound[tile.first + row];
        enters[row] = ((scores[row][0] > bound) & open[0]) | ((scores[row][1] > bound) & open[1]);
        some |= enters[row];
    }
    if (__builtin_expect(!any(some), 1)) return;
    for (int row = 0; row < COUNT; row++) {
        if (!any(enters[row])) continue;
        for (int lane = 0; lane < WIDTH; lane++) {
            const float score = scores[row][lane / LANES][lane % LANES];
            if (open[lane / LANES][lane % LANES] && score > contest.bound[tile.first + row])
                contest.enter(tile.first + row, score, segment.row_of(first + lane));
        }
    }
}

void scan(const Tiles &tiles, int64_t dim, const Segment &segment, Contest &contest) {
    IntVec open[2];
    for (int64_t panel = segment.first_panel; panel < segment.last_panel; panel++) {
        const int64_t next = segment.next(panel, open);
        if (next - panel <= GAP) pass_over(segment.panels + panel * dim * WIDTH, (next - panel) * dim * WIDTH);
        if ((panel = next) == segment.last_panel) break;
        const float *at = segment.panels + panel * dim * WIDTH;
        for (const Tile &tile : tiles)
            with_rows(tile.rows, [&](auto rows) { offer<rows>(tile, at, dim, open, segment, panel * WIDTH, contest); });
    }
}
}  // namespace

extern "C" {

// Merge candidates into the best of each query, (queries, k) keys in order. The candidates' rows ascend, and are beyond
// those that were seen before. `allowed` holds for all queries, the lists for one each.
void best_candidates(int64_t threads, const float *queries, int64_t num_queries, int64_t dim, const float *panels,
                     int64_t num_candidates, int64_t first_row, const int64_t *rows, const bool *allowed,
                     const int64_t *excluded, const int64_t *excluded_offsets, const int64_t *own,
                     const int64_t *own_offsets, int64_t k, int64_t *best) {
    if (!num_queries || !num_candidates) return;
    const int64_t num_panels = (num_candidates + WIDTH - 1) / WIDTH;
    const int64_t work = (num_queries * num_candidates * dim + WORK - 1) / WORK;
    threads = std::min(threads, work);
    int64_t blocks = (num_queries + BLOCK - 1) / BLOCK;
    if (blocks > threads) blocks = (blocks + threads - 1) / threads * threads;
    const int64_t share = (num_queries + blocks - 1) / blocks, size = std::min(BLOCK, (share + ROWS - 1) / ROWS * ROWS);
    blocks = (num_queries + size - 1) / size;
    const int64_t segments = std::min(std::max<int64_t>(1, threads / blocks), num_panels);
    const Lists exclude{excluded, excluded_offsets}, allow{own, own_offsets};
    std::vector<std::unique_ptr<Contest>> contests(blocks * segments);

    const auto finish = [&](int64_t block) {
        std::vector<int64_t> all;
        for (int64_t query = block * size; query < std::min(num_queries, (block + 1) * size); query++) {
            all.assign(best + query * k, best + (query + 1) * k);
            for (int64_t segment = 0; segment < segments; segment++)
                contests[segment * blocks + block]->append_to(all, query - block * size);
            take_best(all, k, best + query * k);
        }
        for (int64_t segment = 0; segment < segments; segment++) contests[segment * blocks + block].reset();
    };
#pragma omp parallel for schedule(dynamic) num_threads(threads) if (blocks * segments > 1)
    for (int64_t task = 0; task < blocks * segments; task++) {
        const int64_t block = task % blocks, number = task / blocks, first = block * size;
        const int64_t count = std::min(size, num_queries - first);
        const Segment segment{panels, num_candidates, first_row, rows, allowed, num_panels * number / segments,
                              num_panels * (number + 1) / segments};
        contests[task] = std::make_unique<Contest>(count, k, num_candidates, best + first * k);
        if (exclude.given() || allow.given()) {
            const int64_t from = segment.row_of(segment.first_panel * WIDTH);
            const int64_t to = segment.row_of(std::min(segment.last_panel * WIDTH, num_candidates) - 1);
            for (int64_t query = first; query < first + count; query++)
                contests[task]->rules.emplace_back(exclude, allow, query, from, to);
        }
        scan(Tiles(queries + first * dim, count, dim), dim, segment, *contests[task]);
        if (segments == 1) finish(block);
    }
    if (segments > 1)
        for (int64_t block = 0; block < blocks; block++) finish(block);
}

// The best of each query's own short list of candidates: only those are scored.
void best_of_lists(int64_t threads, const float *queries, int64_t num_queries, int64_t dim, const float *panels,
                   const int64_t *excluded, const int64_t *excluded_offsets, const int64_t *own,
                   const int64_t *own_offsets, int64_t k, int64_t *best) {
    const Lists exclude{excluded, excluded_offsets}, allow{own, own_offsets};
#pragma omp parallel for schedule(dynamic, 8) num_threads(threads)
    for (int64_t query = 0; query < num_queries; query++) {
        std::vector<int64_t> allowed, gone, rows, keys;
        allow.distinct_rows(query, allowed);
        if (exclude.given()) exclude.distinct_rows(query, gone);
        std::set_difference(allowed.begin(), allowed.end(), gone.begin(), gone.end(), std::back_inserter(rows));
        std::vector<float> scores(rows.size());
        const auto start = [&](int64_t i) { return panels + rows[i] / WIDTH * dim * WIDTH + rows[i] % WIDTH; };
        dots(queries + query * dim, start, WIDTH, rows.size(), dim, scores.data());
        for (size_t i = 0; i < rows.size(); i++) keys.push_back(key_of(scores[i], rows[i]));
        take_best(keys, k, best + query * k);
    }
}

// Take keys apart; a missing place has score -inf and row -1.
void unpack_keys(int64_t threads, const int64_t *keys, int64_t count, float *scores, int64_t *rows) {
#pragma omp parallel for num_threads(threads) if (count > 1 << 16)
    for (int64_t i = 0; i < count; i++) {
        scores[i] = score_of(keys[i]);
        rows[i] = scores[i] > -INFINITY ? 0xffffffff - (keys[i] & 0xffffffff) : -1;
    }
}
}
