#pragma once

#include <cstdint>

namespace doppel {

// Loops over one row of distances (or of embeddings), compiled once per instruction set. A distance of
// +infinity marks a column that takes no part. No pointers overlap unless said.
struct RowKernels {
  // |a - b|² of two rows of n floats.
  float (*squared_difference)(const float* a, const float* b, int64_t n);
  // ga += k (a - b), gb -= k (a - b); gb may be null.
  void (*add_difference)(const float* a, const float* b, float k, float* ga, float* gb, int64_t n);
  // out[j * out_stride + i] = in[i * in_stride + j], i < rows, j < columns.
  void (*transpose)(const float* in, int64_t in_stride, float* out, int64_t out_stride, int64_t rows,
                    int64_t columns);
  // upper[i][j] and lower[j][i] both become their sum; the two blocks may be one block on the diagonal (then
  // the diagonal itself doubles).
  void (*add_transpose)(float* upper, float* lower, int64_t stride, int64_t rows, int64_t columns);
  // row[j] := max(0, norm + norms[j] + row[j]). Returns how many are below close * (norm + norms[j]).
  int64_t (*to_squares)(float* row, float norm, const float* norms, float close, int64_t n);
  // row[j] := sqrt(row[j] + 1e-12).
  void (*to_euclidean)(float* row, int64_t n);
  // row[j] := row[j] / 2 + slack + slacks[j].
  void (*to_cosine)(float* row, float slack, const float* slacks, int64_t n);

  // The first column of the smallest value, -1 if there is none.
  int64_t (*argmin)(const float* row, int64_t n);
  // The same among low < row[j] < high.
  int64_t (*argmin_between)(const float* row, float low, float high, int64_t n);
  int64_t (*count_between)(const float* row, float low, float high, int64_t n);
  // The k smallest in rising order (ties: first column first) into values and columns; returns how many there
  // are.
  int64_t (*smallest)(const float* row, int64_t n, int64_t k, float* values, int32_t* columns);
  // out[j] := +infinity where the cosine exceeds `cap`, else row[j]. The cosine is 1 - row[j] (norms ==
  // nullptr), or (n² + n_j² - s_j) / (2 n n_j) with s_j = row[j]² (euclidean) or row[j].
  void (*drop_similar)(const float* row, float norm, const float* norms, bool euclidean, float cap,
                       float* out, int64_t n);
  // out[j] := exp((low - row[j]) * inverse_temperature), 0 for +infinity. Returns the sum.
  double (*exponentials)(const float* row, float low, float inverse_temperature, float* out, int64_t n);

  // Hinge over p positives with thresholds t = d_ap + margin: counts[j] := #{i: t_i > row[j]}, active[i] :=
  // #{j: t_i > row[j]}. Returns Σ [t_i - row[j]]+.
  double (*hinge)(const float* row, int64_t n, const float* thresholds, int64_t p, float* counts,
                  int64_t* active);
  // ranks[j] := #{i: sorted[i] <= row[j]} for rising `sorted`.
  void (*ranks)(const float* row, int64_t n, const float* sorted, int64_t p, int32_t* ranks);
  // One positive with a hardness cap. Columns with d_ap - row[j] <= cap count: multiplicity[j] += 1, and by z
  // = d_ap - row[j] weights[j] += loss'(z). Hinge: loss = [z + margin]+.
  struct Sums {
    double loss = 0;
    double weight = 0;
    int64_t active = 0;
    int64_t valid = 0;
  };
  Sums (*hinge_capped)(const float* row, int64_t n, float d_ap, float margin, float cap, float* weights,
                       float* multiplicity);
  // Soft: loss = ln(1 + e^(scale z)).
  Sums (*soft_capped)(const float* row, int64_t n, float d_ap, float scale, float cap, float* weights,
                      float* multiplicity);

  // bins[j] := clamp((row[j] - low) * scale, 0, last); last + 1 for +infinity.
  void (*bins)(const float* row, int64_t n, float low, float scale, int32_t last, int32_t* bins);
  // Lowers *low and raises *high to the finite values of the row.
  void (*range)(const float* row, int64_t n, float* low, float* high);
  // out[j] := weights[j] * factor, 0 for +infinity, with factor 1 / row[j] (euclidean) or `constant`. out may
  // be row or weights.
  void (*to_pair_weights)(const float* row, const float* weights, bool euclidean, float constant, float* out,
                          int64_t n);
};

// Those for this processor.
const RowKernels& BestRowKernels();

// By instruction set; null where it was not compiled or the processor lacks it. For tests.
const RowKernels* RowKernelsBaseline();
const RowKernels* RowKernelsAvx2();
const RowKernels* RowKernelsAvx512();

}  // namespace doppel
