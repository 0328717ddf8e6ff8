#include "trainer/loss/loss_options.h"

#include <cmath>
#include <functional>
#include <limits>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"

namespace doppel {
namespace {

constexpr double kUnbounded = std::numeric_limits<double>::infinity();

struct OptionEntry {
  LossOptionHelp help;
  // False if the text is out of range.
  std::function<bool(LossOptions*, absl::string_view)> set;
};

std::string RangeText(double low, double high, bool is_integer) {
  std::string kind = is_integer ? "an integer" : "a number";
  if (low == -kUnbounded) return kind;
  if (high == kUnbounded) return absl::StrCat(kind, ", ", low, " or more");
  return absl::StrCat(kind, " from ", low, " to ", high);
}

template <typename T>
OptionEntry Integer(absl::string_view key, T LossOptions::*field, int64_t low, absl::string_view help) {
  OptionEntry entry;
  entry.help = {std::string(key), std::string(help), RangeText(static_cast<double>(low), kUnbounded, true)};
  entry.set = [field, low](LossOptions* options, absl::string_view text) {
    T value{};
    if (!absl::SimpleAtoi(text, &value) || value < static_cast<T>(low)) return false;
    options->*field = value;
    return true;
  };
  return entry;
}

OptionEntry Number(absl::string_view key, double LossOptions::*field, double low, double high,
                   absl::string_view help) {
  OptionEntry entry;
  entry.help = {std::string(key), std::string(help), RangeText(low, high, false)};
  entry.set = [field, low, high](LossOptions* options, absl::string_view text) {
    double value = 0;
    if (!absl::SimpleAtod(text, &value) || !std::isfinite(value) || value < low || value > high) return false;
    options->*field = value;
    return true;
  };
  return entry;
}

OptionEntry Flag(absl::string_view key, bool LossOptions::*field, absl::string_view help) {
  OptionEntry entry;
  entry.help = {std::string(key), std::string(help), "true or false"};
  entry.set = [field](LossOptions* options, absl::string_view text) {
    bool value = false;
    if (!absl::SimpleAtob(text, &value)) return false;
    options->*field = value;
    return true;
  };
  return entry;
}

// Without `choices` any text will do: the factory checks it.
OptionEntry Text(absl::string_view key, std::string LossOptions::*field, std::vector<std::string> choices,
                 absl::string_view help, absl::string_view range = "") {
  OptionEntry entry;
  entry.help = {std::string(key), std::string(help),
                choices.empty() ? std::string(range) : absl::StrCat("one of ", absl::StrJoin(choices, ", "))};
  entry.set = [field, choices = std::move(choices)](LossOptions* options, absl::string_view text) {
    bool known = choices.empty();
    for (const std::string& choice : choices) known = known || choice == text;
    if (known) options->*field = std::string(text);
    return known;
  };
  return entry;
}

OptionEntry MarginText() {
  OptionEntry entry = Text("margin", &LossOptions::margin, {}, "all but the heads: m, or the soft margin",
                           "\"soft\" or a number, 0 or more");
  entry.set = [](LossOptions* options, absl::string_view text) {
    double value = 0;
    if (text != "soft" && !(absl::SimpleAtod(text, &value) && std::isfinite(value) && value >= 0))
      return false;
    options->margin = std::string(text);
    return true;
  };
  return entry;
}

void AddTripletFamily(std::vector<OptionEntry>* all) {
  using O = LossOptions;
  all->push_back(
      Number("soft_scale", &O::soft_scale, 0, kUnbounded, "soft margin: s in ln(1 + e^(s z)), above 0"));
  all->push_back(Flag("mean_over_active", &O::mean_over_active,
                      "triplet family, hinge: mean over active triplets instead of all selected ones"));
  all->push_back(Integer("negatives", &O::negatives, 1,
                         "batch_ohnm: nearest negatives per (anchor, positive); ohnm: random ones"));
  all->push_back(Integer("skip", &O::skip, 0, "batch_ohnm: very nearest negatives left out"));
  all->push_back(Number("semi_hard_width", &O::semi_hard_width, 0, kUnbounded,
                        "semi_hard, semi_hard_random with the soft margin: d_ap < d_an < d_ap + width"));
  all->push_back(Number("temperature", &O::temperature, 0, kUnbounded,
                        "softmax_sampled: softmax(d / temperature), above 0"));
  all->push_back(Number("hardness_cap", &O::hardness_cap, 0, kUnbounded,
                        "triplet family: triplets with d_ap - d_an above it are left out; 0: off"));
  all->push_back(Number("positive_cap", &O::positive_cap, 0, kUnbounded,
                        "triplet family: positives with d_ap above it are left out; 0: off"));
  all->push_back(Number("negative_similarity_cap", &O::negative_similarity_cap, 0, kUnbounded,
                        "triplet family: negatives more similar (cosine) than this share of the positive's "
                        "similarity are left out; 0: off"));
  all->push_back(Number("margin_start", &O::margin_start, 0, kUnbounded,
                        "hinge: the margin at step 0, if margin_steps is above 0"));
  all->push_back(
      Integer("margin_steps", &O::margin_steps, 0, "hinge: steps until `margin` is reached; 0: at once"));
}

void AddOtherFamilies(std::vector<OptionEntry>* all) {
  using O = LossOptions;
  all->push_back(
      Text("reduction", &O::reduction, {"definition", "mean", "sum", "balanced", "nonzero"},
           "contrastive: mean, balanced, nonzero; lmnn, lifted_pxk: sum, mean; verification: balanced, "
           "mean (each one's definition first)"));
  all->push_back(Integer("power", &O::power, 1, "contrastive: of the distance, 1 or 2"));
  all->push_back(Integer("target_neighbours", &O::target_neighbours, 1,
                         "lmnn: nearest samples of the same identity that are pulled"));
  all->push_back(Number("mu", &O::mu, 0, 1, "lmnn: weight of push; 1 - mu is that of pull"));
  all->push_back(Text("selection", &O::selection, {"all", "hardest"}, "improved_triplet: which triplets"));
  all->push_back(Number("pull", &O::pull, 0, kUnbounded, "improved_triplet: weight of d_ap"));
  all->push_back(Number("beta", &O::beta, -kUnbounded, kUnbounded,
                        "quadruplet: margin of the second term, below `margin`; below 0: half of it"));
  all->push_back(Text("softmax_weights", &O::softmax_weights, {"exact", "fast_reid"},
                      "adaptive_weights: fast_reid counts the anchor as a positive and adds 1e-6 to the "
                      "denominators, as that library does"));
}

void AddHeads(std::vector<OptionEntry>* all) {
  using O = LossOptions;
  all->push_back(Integer("classes", &O::classes, 0, "id_softmax, joint: room for identities"));
  all->push_back(Integer("dimension", &O::dimension, 1, "heads: of the embedding"));
  all->push_back(Number("softmax_scale", &O::softmax_scale, 0, kUnbounded,
                        "id_softmax, attribute, joint: of cosine logits; 0: linear head with bias"));
  all->push_back(
      Number("label_smoothing", &O::label_smoothing, 0, 1, "id_softmax, attribute, joint: below 1"));
  all->push_back(Integer("seed", &O::seed, 0, "of heads' weights and of random draws"));
  all->push_back(Text("attributes", &O::attributes, {}, "attribute, joint: classes of identities",
                      "a CSV file with the header identity,NAME,..."));
  all->push_back(Text("metric", &O::metric, {}, "joint: its metric loss", "the name of a metric loss"));
  all->push_back(Number("metric_weight", &O::metric_weight, 0, kUnbounded, "joint"));
  all->push_back(Number("id_weight", &O::id_weight, 0, kUnbounded, "joint; 0: without ID head"));
  all->push_back(
      Number("attribute_weight", &O::attribute_weight, 0, kUnbounded, "joint; 0: without these heads"));
  all->push_back(
      Number("verification_weight", &O::verification_weight, 0, kUnbounded, "joint; 0: without this head"));
  all->push_back(Flag("bnneck", &O::bnneck, "joint: batch normalisation before ID head and attribute heads"));
  all->push_back(Integer("memory", &O::memory, 0, "rows of the cross-batch memory; 0: none"));
  all->push_back(Integer("memory_start", &O::memory_start, 0, "step from which on the memory is used"));
}

std::vector<OptionEntry> Entries() {
  std::vector<OptionEntry> all;
  all.push_back(Text("name", &LossOptions::name, {}, "the loss", "the name of a loss"));
  all.push_back(Text("distance", &LossOptions::distance, {"euclidean", "squared", "cosine"}, "all losses"));
  all.push_back(MarginText());
  AddTripletFamily(&all);
  AddOtherFamilies(&all);
  AddHeads(&all);
  return all;
}

}  // namespace

std::vector<LossOptionHelp> LossOptionKeys() {
  const std::vector<OptionEntry> entries = Entries();
  std::vector<LossOptionHelp> keys;
  keys.reserve(entries.size());
  for (const OptionEntry& entry : entries) keys.push_back(entry.help);
  return keys;
}

absl::Status SetLossOption(LossOptions* options, absl::string_view key, absl::string_view value) {
  const std::vector<OptionEntry> entries = Entries();
  for (const OptionEntry& entry : entries) {
    if (entry.help.key != key) continue;
    if (entry.set(options, value)) return absl::OkStatus();
    return absl::InvalidArgumentError(
        absl::StrCat("loss option ", key, "=\"", value, "\": it must be ", entry.help.range));
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "no loss option is called \"", key, "\": there are ",
      absl::StrJoin(entries, ", ", [](std::string* out, const OptionEntry& e) { *out += e.help.key; })));
}

absl::Status SetLossOption(LossOptions* options, absl::string_view assignment) {
  const std::pair<absl::string_view, absl::string_view> parts =
      absl::StrSplit(assignment, absl::MaxSplits('=', 1));
  if (assignment.find('=') == absl::string_view::npos) {
    return absl::InvalidArgumentError(
        absl::StrCat("loss option \"", assignment, "\" is not of the form key=value, such as negatives=5"));
  }
  return SetLossOption(options, parts.first, parts.second);
}

}  // namespace doppel
