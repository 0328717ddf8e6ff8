#include "services/trainer_worker/eval_protocols_command.h"

#include <CLI/CLI.hpp>
#include <memory>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "common/base/clock.h"
#include "common/base/status_macros.h"
#include "common/catalog/catalog.h"
#include "services/trainer_worker/eval_data_files.h"
#include "trainer/eval/coverage.h"
#include "trainer/eval/embed_samples.h"
#include "trainer/eval/insightface_bin.h"

namespace doppel {
namespace {

absl::Status Misused(absl::string_view what) { return absl::InvalidArgumentError(what); }

absl::Status CheckCombination(const EvalProtocolsOptions& o) {
  if (o.output != "table" && o.output != "json") {
    return Misused(absl::StrCat("--output is \"", o.output, "\": choose table or json"));
  }
  RETURN_IF_ERROR(CheckProtocol(o.request.protocol));
  const bool direct = !o.confidence.empty() || !o.correct.empty();
  if (direct) {
    if (o.request.protocol != "coverage" || o.confidence.empty() || o.correct.empty()) {
      return Misused("--confidence and --correct belong together, with --protocol coverage");
    }
    return absl::OkStatus();
  }
  if (o.model.empty() == o.embeddings.empty()) {
    return Misused("give either --model with --catalog, --images or --bin, or --embeddings");
  }
  const int sources = (o.catalog.empty() ? 0 : 1) + (o.images.empty() ? 0 : 1) + (o.bin.empty() ? 0 : 1);
  if (sources != (o.model.empty() ? 0 : 1)) {
    return Misused(o.model.empty() ? "--catalog, --images and --bin need a --model"
                                   : "--model needs exactly one of --catalog, --images and --bin");
  }
  if (!o.pairs.empty() && !o.pairs_npy.empty()) return Misused("give --pairs or --pairs-npy, not both");
  const bool pairs = !o.pairs.empty() || !o.pairs_npy.empty() || !o.bin.empty();
  if (pairs && o.request.protocol != "lfw" && o.request.protocol != "verification") {
    return Misused(absl::StrCat("pairs belong to lfw and verification, not to ", o.request.protocol));
  }
  if (!pairs && o.request.protocol == "lfw") {
    return Misused("lfw needs its pairs: --pairs pairs.txt, --pairs-npy, or a --bin");
  }
  if (o.query_embeddings.empty() != o.query_labels.empty()) {
    return Misused("--query-embeddings and --query-labels belong together");
  }
  if (o.query_embeddings.empty() && !o.query_cameras.empty()) {
    return Misused("--query-cameras needs --query-embeddings");
  }
  if (!o.embeddings.empty() && o.labels.empty() && !pairs) return Misused("--embeddings needs --labels");
  if (!o.embeddings.empty() && !o.pairs.empty() && o.names.empty()) {
    return Misused("--pairs needs --names: a text file with the picture of every row, such as name_0001.jpg");
  }
  if (!o.embeddings.empty() && o.request.protocol == "market1501" &&
      (o.query_embeddings.empty() || o.cameras.empty() || o.query_cameras.empty())) {
    return Misused("market1501 needs --cameras, --query-embeddings, --query-labels and --query-cameras");
  }
  return absl::OkStatus();
}

absl::Status AddPairs(const EvalProtocolsOptions& o, const std::vector<std::string>& names,
                      ProtocolData* data) {
  if (o.pairs.empty() && o.pairs_npy.empty()) return absl::OkStatus();
  data->has_pairs = true;
  if (!o.pairs_npy.empty()) {
    ASSIGN_OR_RETURN(data->pairs, ReadNpyPairs(PosixFileSystem(), o.pairs_npy));
    return absl::OkStatus();
  }
  ASSIGN_OR_RETURN(const std::string text, PosixFileSystem().ReadFile(o.pairs));
  ASSIGN_OR_RETURN(const NamedPairs pairs, ParseLfwPairs(text, o.pairs));
  ASSIGN_OR_RETURN(data->pairs, ResolvePairs(pairs, names));
  return absl::OkStatus();
}

absl::StatusOr<ProtocolData> FromFiles(const EvalProtocolsOptions& o) {
  FileSystem& fs = PosixFileSystem();
  ProtocolData data;
  ASSIGN_OR_RETURN(data.gallery, ReadEvalData(fs, o.embeddings, o.labels, o.cameras));
  if (!o.query_embeddings.empty()) {
    ASSIGN_OR_RETURN(data.queries, ReadEvalData(fs, o.query_embeddings, o.query_labels, o.query_cameras));
  }
  std::vector<std::string> names;
  if (!o.names.empty()) {
    ASSIGN_OR_RETURN(names, ReadLines(fs, o.names));
    if (static_cast<int64_t>(names.size()) != data.gallery.rows()) {
      return absl::InvalidArgumentError(absl::StrCat(o.names, ": ", names.size(), " names, but ",
                                                     o.embeddings, " holds ", data.gallery.rows(), " rows"));
    }
  }
  RETURN_IF_ERROR(AddPairs(o, names, &data));
  return data;
}

// Embeds what a protocol asks for.
class ModelData {
 public:
  ModelData(const EvalProtocolsOptions& options, const EmbeddingModel& model)
      : options_(options), model_(model) {
    embed_.threads = options.embedding.threads;
    embed_.batch_size = options.embedding.batch_size;
    embed_.quiet = options.embedding.quiet;
    embed_.mirror = options.mirror;
  }

  absl::StatusOr<ProtocolData> Bin() {
    ASSIGN_OR_RETURN(const InsightFaceBin bin, ReadInsightFaceBin(options_.bin));
    ProtocolData data;
    ASSIGN_OR_RETURN(data.gallery, Embed(*MakeMemorySource(bin.images, bin.owner), "embed pairs"));
    data.has_pairs = true;
    for (size_t i = 0; i < bin.same.size(); ++i) {
      data.pairs.push_back({static_cast<int64_t>(2 * i), static_cast<int64_t>(2 * i + 1), bin.same[i]});
    }
    return data;
  }

  absl::StatusOr<ProtocolData> Images() {
    ProtocolData data;
    if (options_.request.protocol == "market1501") {
      ASSIGN_OR_RETURN(const auto gallery, MakeFolderSource(options_.images + "/bounding_box_test"));
      ASSIGN_OR_RETURN(const auto queries, MakeFolderSource(options_.images + "/query"));
      ASSIGN_OR_RETURN(data.gallery, EmbedMarket(*gallery, "embed gallery"));
      ASSIGN_OR_RETURN(data.queries, EmbedMarket(*queries, "embed queries"));
      return data;
    }
    ASSIGN_OR_RETURN(const auto source, MakeFolderSource(options_.images));
    // A picture that the pairs miss is an error at once, not after all others have been embedded.
    RETURN_IF_ERROR(AddPairs(options_, Names(*source), &data));
    ASSIGN_OR_RETURN(data.gallery, Embed(*source, "embed"));
    data.gallery.labels = FolderLabels(*source);
    return data;
  }

  absl::StatusOr<ProtocolData> FromCatalog(const Catalog& catalog) {
    const std::string& protocol = options_.request.protocol;
    ProtocolData data;
    if (protocol == "market1501" || !options_.query_split.empty()) {
      const bool market = protocol == "market1501";
      for (const bool query : {false, true}) {
        const std::string& asked = query ? options_.query_split : options_.gallery_split;
        const std::string split = asked.empty() ? (query ? "query" : "gallery") : asked;
        ASSIGN_OR_RETURN(const CatalogSplitInfo info, catalog.Split(split));
        const std::vector<uint64_t> samples = SamplesOf(catalog, info);
        const auto source = MakeCatalogSource(catalog, samples);
        const std::string label = query ? "embed queries" : "embed gallery";
        EvalData& part = query ? data.queries : data.gallery;
        if (market) {
          ASSIGN_OR_RETURN(part, EmbedMarket(*source, label));
        } else {
          ASSIGN_OR_RETURN(part, Embed(*source, label));
          // An identity of one split has another number in the next: its name is what counts.
          for (const uint64_t sample : samples) part.labels.push_back(NumberOf(catalog, sample));
        }
      }
      return data;
    }
    ASSIGN_OR_RETURN(const CatalogSplitInfo info, catalog.Split(options_.embedding.split));
    std::vector<uint64_t> samples = SamplesOf(catalog, info);
    const size_t probes = samples.size();
    if (protocol == "identification_distractors") AddDistractors(catalog, info, &samples);
    const auto source = MakeCatalogSource(catalog, samples);
    RETURN_IF_ERROR(AddPairs(options_, Names(*source), &data));
    ASSIGN_OR_RETURN(data.gallery, Embed(*source, "embed"));
    for (size_t i = 0; i < samples.size(); ++i) {
      const auto identity = static_cast<int64_t>(catalog.Sample(samples[i]).identity);
      // Distractors stand alone, whoever they show.
      data.gallery.labels.push_back(i < probes ? identity : -1 - static_cast<int64_t>(i));
    }
    return data;
  }

 private:
  absl::StatusOr<EvalData> Embed(const ImageSource& source, const std::string& label) {
    EvalData data;
    data.dimension = model_.spec().dimension;
    ASSIGN_OR_RETURN(data.vectors, EmbedAll(source, model_, label, embed_));
    return data;
  }

  absl::StatusOr<EvalData> EmbedMarket(const ImageSource& source, const std::string& label) {
    std::vector<int64_t> identities;
    std::vector<int64_t> cameras;
    for (int64_t i = 0; i < source.size(); ++i) {
      ASSIGN_OR_RETURN(const MarketName name, ParseMarketName(source.Name(i)));
      identities.push_back(name.identity);
      cameras.push_back(name.camera);
    }
    ASSIGN_OR_RETURN(EvalData data, Embed(source, label));
    data.labels = std::move(identities);
    data.cameras = std::move(cameras);
    return data;
  }

  static std::vector<std::string> Names(const ImageSource& source) {
    std::vector<std::string> names;
    names.reserve(source.size());
    for (int64_t i = 0; i < source.size(); ++i) names.push_back(source.Name(i));
    return names;
  }

  static std::vector<uint64_t> SamplesOf(const Catalog& catalog, const CatalogSplitInfo& split) {
    std::vector<uint64_t> samples;
    samples.reserve(split.samples);
    const IdentityRows rows = split.rows();
    for (uint64_t row = 0; row < rows.size(); ++row) {
      const IdentitySamples own = catalog.Samples(rows.Identity(row));
      for (uint64_t j = 0; j < own.count; ++j) samples.push_back(own[j]);
    }
    return samples;
  }

  // The first sample of every identity outside the split, or of those in --gallery-split.
  void AddDistractors(const Catalog& catalog, const CatalogSplitInfo& probes,
                      std::vector<uint64_t>* samples) {
    for (const CatalogSplitInfo& split : catalog.splits()) {
      if (split.first_identity == probes.first_identity) continue;
      if (!options_.gallery_split.empty() && split.name != options_.gallery_split) continue;
      const IdentityRows rows = split.rows();
      for (uint64_t row = 0; row < rows.size(); ++row) {
        const uint64_t i = rows.Identity(row);
        if (catalog.Samples(i).count > 0) samples->push_back(catalog.Samples(i).first);
      }
    }
  }

  int64_t NumberOf(const Catalog& catalog, uint64_t sample) {
    const std::string name(catalog.IdentityName(catalog.Sample(sample).identity));
    return numbers_.try_emplace(name, static_cast<int64_t>(numbers_.size())).first->second;
  }

  const EvalProtocolsOptions& options_;
  const EmbeddingModel& model_;
  EmbedOptions embed_;
  absl::flat_hash_map<std::string, int64_t> numbers_;
};

absl::StatusOr<ProtocolData> FromModel(const EvalProtocolsOptions& o, const EmbeddingModel& model) {
  ModelData data(o, model);
  if (!o.bin.empty()) return data.Bin();
  if (!o.images.empty()) return data.Images();
  ASSIGN_OR_RETURN(const std::shared_ptr<const Catalog> catalog, Catalog::Open(o.catalog));
  return data.FromCatalog(*catalog);
}

absl::StatusOr<std::string> DirectCoverage(const EvalProtocolsOptions& o) {
  ASSIGN_OR_RETURN(const std::vector<double> confidence, ReadNpyDoubles(PosixFileSystem(), o.confidence));
  ASSIGN_OR_RETURN(const std::vector<int64_t> correct, ReadNpyInts(PosixFileSystem(), o.correct));
  if (correct.size() != confidence.size()) {
    return absl::InvalidArgumentError(absl::StrCat(o.correct, ": ", correct.size(), " answers, but ",
                                                   o.confidence, " holds ", confidence.size()));
  }
  std::vector<bool> right(correct.size());
  for (size_t i = 0; i < correct.size(); ++i) right[i] = correct[i] != 0;
  ASSIGN_OR_RETURN(const CoverageReport report, Coverage(confidence, right, o.request.precisions));
  return CoverageToJson(report);
}

absl::StatusOr<std::string> Json(const EvalProtocolsOptions& o) {
  if (!o.confidence.empty()) return DirectCoverage(o);
  ProtocolRequest request = o.request;
  ASSIGN_OR_RETURN(request.ranking.similarity, ParseDistance(o.distance));
  request.ranking.threads = o.embedding.threads;
  request.seed = o.embedding.seed;
  if (o.model.empty()) {
    ASSIGN_OR_RETURN(ProtocolData data, FromFiles(o));
    return RunProtocol(request, std::move(data));
  }
  ASSIGN_OR_RETURN(std::unique_ptr<EmbeddingModel> model, LoadEmbeddingModel(o.model, o.device));
  if (request.protocol == "open_gallery" && !o.catalog.empty()) {
    ASSIGN_OR_RETURN(const std::shared_ptr<const Catalog> catalog, Catalog::Open(o.catalog));
    IdentificationOptions identification = o.embedding;
    identification.recall_at = request.top;
    if (!request.far_targets.empty()) identification.far_targets = request.far_targets;
    ASSIGN_OR_RETURN(const IdentificationReport report,
                     EvaluateIdentification(*catalog, *model, identification));
    return ToJson(report);
  }
  ASSIGN_OR_RETURN(ProtocolData data, FromModel(o, *model));
  ASSIGN_OR_RETURN(const std::string text, RunProtocol(request, std::move(data)));
  auto json = nlohmann::ordered_json::parse(text);
  json["model_step"] = model->spec().step;
  return json.dump(2);
}

}  // namespace

CLI::App* AddEvalProtocolsCommand(CLI::App& app, EvalProtocolsOptions* o) {
  CLI::App* eval = app.add_subcommand(
      "eval", "Measure a model, or embeddings in .npy files, by one of the protocols of docs/evaluation.md");
  eval->add_option(
          "--protocol", o->request.protocol,
          "open_gallery, lfw, market1501, retrieval, verification, identification_distractors, coverage")
      ->capture_default_str();
  auto* model = eval->add_option_group("Of a model");
  model->add_option("--model", o->model, "Model directory");
  model->add_option("--catalog", o->catalog, "Catalog directory");
  model->add_option("--images", o->images,
                    "Folder: of identities; lfw: of names; market1501: with query and bounding_box_test");
  model->add_option("--bin", o->bin, "lfw, verification: InsightFace's .bin of image pairs");
  model->add_option("--split", o->embedding.split, "Split of the catalog")->capture_default_str();
  model->add_option("--query-split", o->query_split, "Queries from a split of their own (market1501: query)");
  model->add_option(
      "--gallery-split", o->gallery_split,
      "With --query-split (market1501: gallery); identification_distractors: of the distractors");
  model->add_flag("--mirror", o->mirror, "Add the embedding of the mirror image");
  model->add_option("--queries", o->embedding.queries_per_identity, "open_gallery: per identity")
      ->capture_default_str();
  model->add_flag("--augment-queries", o->embedding.augment_queries, "open_gallery: mildly");
  model->add_option("--batch-size", o->embedding.batch_size, "Images at once")->capture_default_str();
  model->add_option("--device", o->device, "auto, cpu, cuda:N")->capture_default_str();
  auto* files = eval->add_option_group("Of files");
  files->add_option("--embeddings", o->embeddings, "[N, D] float .npy: the gallery");
  files->add_option("--labels", o->labels, "[N] integer .npy");
  files->add_option("--cameras", o->cameras, "[N] integer .npy");
  files->add_option("--query-embeddings", o->query_embeddings, "Default: the gallery against itself");
  files->add_option("--query-labels", o->query_labels, "[M] integer .npy");
  files->add_option("--query-cameras", o->query_cameras, "[M] integer .npy");
  files->add_option("--confidence", o->confidence, "coverage: [N] float .npy, instead of embeddings");
  files->add_option("--correct", o->correct, "coverage: [N] .npy, 0 is wrong");
  auto* pairs = eval->add_option_group("Pairs");
  pairs->add_option("--pairs", o->pairs, "pairs.txt of LFW");
  pairs->add_option("--names", o->names, "The picture of every row, a line each, for --pairs");
  pairs->add_option("--pairs-npy", o->pairs_npy, "[P, 3] integer .npy: row, row, 1 if the same identity");
  pairs->add_option("--folds", o->request.folds, "lfw")->capture_default_str();
  pairs->add_option("--val-far", o->request.val_far, "lfw: FAR of VAL@FAR")->capture_default_str();
  auto* figures = eval->add_option_group("Figures");
  figures->add_option("--distance", o->distance, "cosine (rows are normalised), euclidean")
      ->capture_default_str();
  figures->add_option("--top", o->request.top, "K of CMC@K and Recall@K")
      ->delimiter(',')
      ->capture_default_str();
  figures
      ->add_option("--far", o->request.far_targets,
                   "Targets of TAR@FAR (default: 1e-6, 1e-5, … 0.1; open_gallery: up to 1e-3)")
      ->delimiter(',');
  figures->add_option("--precision", o->request.precisions, "Of coverage")
      ->delimiter(',')
      ->capture_default_str();
  figures->add_option("--distractors", o->request.distractors, "Gallery sizes")
      ->delimiter(',')
      ->capture_default_str();
  eval->add_option("--seed", o->embedding.seed, "Of augmentation and distractors")->capture_default_str();
  eval->add_option("--threads", o->embedding.threads, "That embed and rank")->capture_default_str();
  eval->add_option("-o,--output", o->output, "table, json")->capture_default_str();
  return eval;
}

absl::StatusOr<std::string> RunEvalProtocols(const EvalProtocolsOptions& options) {
  RETURN_IF_ERROR(CheckCombination(options));
  const absl::Time start = Clock::Real().Now();
  ASSIGN_OR_RETURN(const std::string text, Json(options));
  auto json = nlohmann::ordered_json::parse(text);
  json["seconds"] = absl::ToDoubleSeconds(Clock::Real().Now() - start);
  const std::string with_time = json.dump(2);
  return options.output == "json" ? absl::StrCat(with_time, "\n") : JsonToTable(with_time);
}

}  // namespace doppel
