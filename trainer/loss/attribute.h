#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/string_view.h"
#include "trainer/loss/distance.h"
#include "trainer/loss/loss.h"

namespace doppel {

// What is known of identities: for every attribute one of its classes, or nothing.
struct AttributeTable {
  struct Attribute {
    std::string name;
    std::vector<std::string> classes;  // rising; a class' number is its place
  };
  std::vector<Attribute> attributes;
  // By identity: a class per attribute, -1 where it is not known.
  absl::flat_hash_map<int64_t, std::vector<int64_t>> classes_of;
};

// CSV without quoting: a header `identity,colour,kind`, then a line per identity (its number in the catalog)
// with the names of its classes; an empty cell is "not known". Every attribute needs two classes. `where` is
// for messages, which name the line.
absl::StatusOr<AttributeTable> ParseAttributeTable(absl::string_view csv, absl::string_view where);

struct AttributeOptions {
  int64_t dimension = 128;
  double scale = 24;  // as IdSoftmaxOptions::scale
  double label_smoothing = 0;
  uint64_t seed = 0;
  Distance distance = Distance::kEuclidean;  // of the statistics
};

// A softmax head per attribute over the embedding (Lin et al. 2017): the mean over the attributes that the
// batch knows anything of, of the mean cross entropy over its labelled samples. Heads are dropped at test
// time. Samples whose identity is not in the table teach nothing; if that is so for the first 100 batches
// altogether, the table is the wrong one: FAILED_PRECONDITION.
class AttributeLossModule : public Loss {
 public:
  static absl::StatusOr<std::unique_ptr<AttributeLossModule>> Create(AttributeTable table,
                                                                     const AttributeOptions& options);

  absl::StatusOr<LossResult> Compute(const LossInput& input) override;
  // The loss alone, of other features than those that distances are taken of.
  absl::StatusOr<torch::Tensor> CrossEntropy(const torch::Tensor& features,
                                             absl::Span<const int64_t> identities);
  NamedTensors NamedParameters() override;
  // With "labelled" [1] int64: whether any batch ever was, and "batches" [1].
  NamedTensors State() override;
  absl::Status LoadState(const NamedTensors& state) override;
  void To(const torch::Device& device) override;

 private:
  struct Head {
    torch::Tensor weight, bias;
  };
  AttributeLossModule(AttributeTable table, const AttributeOptions& options);

  const AttributeTable table_;
  const AttributeOptions options_;
  std::vector<Head> heads_;
  int64_t labelled_batches_ = 0, batches_ = 0;
};

}  // namespace doppel
