#include "services/trainer_worker/embed_command.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "common/base/progress.h"
#include "common/base/status_macros.h"
#include "common/catalog/catalog.h"
#include "common/io/atomic_file.h"
#include "common/io/crc32c.h"
#include "common/io/npy.h"

namespace doppel {
namespace {

constexpr int64_t kRowsPerWrite = 4096;

// The header of a version 1.0 file, padded as numpy does.
std::string EmbeddingHeader(int64_t rows, int dimension) {
  std::string text =
      absl::StrCat("{'descr': '<f4', 'fortran_order': False, 'shape': (", rows, ", ", dimension, "), }");
  text.append(64 - (10 + text.size() + 1) % 64, ' ');
  text.push_back('\n');
  std::string header("\x93NUMPY\x01\x00", 8);
  header.push_back(static_cast<char>(text.size() & 0xFF));
  header.push_back(static_cast<char>(text.size() >> 8));
  return header + text;
}

// A matrix that grows on disk under a temporary name.
class EmbeddingFile {
 public:
  EmbeddingFile(FileSystem& fs, std::string path, int64_t rows, int dimension)
      : fs_(fs),
        path_(std::move(path)),
        header_(EmbeddingHeader(rows, dimension)),
        rows_(rows),
        row_bytes_(static_cast<uint64_t>(dimension) * sizeof(float)) {}

  // Rows that are there already, of a pass with this very `record`.
  absl::StatusOr<int64_t> Open(const std::string& record) {
    ASSIGN_OR_RETURN(const int64_t there, RowsThere(record));
    if (there == 0) {
      // The record first: rows without one are never taken up.
      RETURN_IF_ERROR(fs_.RemoveRecursively(part()));
      RETURN_IF_ERROR(WriteFileAtomically(fs_, note(), record));
      ASSIGN_OR_RETURN(file_, fs_.Create(part()));
      RETURN_IF_ERROR(file_->Append(header_));
      return 0;
    }
    RETURN_IF_ERROR(fs_.Truncate(part(), header_.size() + static_cast<uint64_t>(there) * row_bytes_));
    ASSIGN_OR_RETURN(file_, fs_.OpenAppend(part()));
    return there;
  }

  absl::Status Append(const std::vector<float>& rows) {
    RETURN_IF_ERROR(file_->Append({reinterpret_cast<const char*>(rows.data()), rows.size() * sizeof(float)}));
    return file_->Sync();
  }

  absl::Status Finish() {
    RETURN_IF_ERROR(file_->Sync());
    RETURN_IF_ERROR(file_->Close());
    RETURN_IF_ERROR(fs_.Rename(part(), path_));
    RETURN_IF_ERROR(fs_.SyncDirectory(DirectoryOf(path_)));
    return fs_.Remove(note());
  }

 private:
  std::string part() const { return path_ + ".part"; }
  std::string note() const { return path_ + ".part.json"; }

  absl::StatusOr<int64_t> RowsThere(const std::string& record) {
    if (!fs_.Exists(part()) || !fs_.Exists(note())) return 0;
    ASSIGN_OR_RETURN(const std::string before, fs_.ReadFile(note()));
    if (before != record) return 0;
    ASSIGN_OR_RETURN(const uint64_t size, fs_.Size(part()));
    if (size < header_.size()) return 0;
    const auto rows = static_cast<int64_t>((size - header_.size()) / row_bytes_);
    return std::min(rows, rows_);
  }

  FileSystem& fs_;
  const std::string path_;
  const std::string header_;
  const int64_t rows_;
  const uint64_t row_bytes_;
  std::unique_ptr<WritableFile> file_;
};

absl::Status CheckEmbed(const EmbedCommandOptions& o) {
  if (o.catalog.empty() == o.images.empty()) {
    return absl::InvalidArgumentError("give either --catalog or --images");
  }
  if (!o.split.empty() && o.catalog.empty()) return absl::InvalidArgumentError("--split needs a --catalog");
  return absl::OkStatus();
}

// Sizes and paths of a folder's files in few characters.
std::string FolderFingerprint(const std::string& folder, const ImageSource& source, FileSystem& fs) {
  std::string text = folder;
  for (int64_t i = 0; i < source.size(); ++i) {
    const absl::StatusOr<uint64_t> size = fs.Size(source.Where(i));
    absl::StrAppend(&text, "\n", source.Name(i), " ", size.ok() ? *size : 0);
  }
  return absl::StrFormat("folder %s, %08x", folder, Crc32c(text));
}

absl::Status WriteNames(const ImageSource& source, const std::string& path, FileSystem& fs) {
  std::string text;
  for (int64_t i = 0; i < source.size(); ++i) absl::StrAppend(&text, source.Name(i), "\n");
  return WriteFileAtomically(fs, path, text);
}

absl::Status WriteLabels(const std::vector<int64_t>& labels, const std::string& path, FileSystem& fs) {
  return WriteNpy(fs, path, {static_cast<int64_t>(labels.size())}, labels);
}

absl::StatusOr<std::string> EmbedCatalog(const EmbedCommandOptions& o, const EmbeddingModel& model,
                                         FileSystem& fs) {
  ASSIGN_OR_RETURN(const std::shared_ptr<const Catalog> catalog, Catalog::Open(o.catalog));
  IdentityRows rows(0, catalog->num_identities());
  if (!o.split.empty()) {
    ASSIGN_OR_RETURN(const CatalogSplitInfo split, catalog->Split(o.split));
    rows = split.rows();
  }
  std::vector<uint64_t> samples;
  std::vector<int64_t> labels;
  for (uint64_t row = 0; row < rows.size(); ++row) {
    const uint64_t i = rows.Identity(row);
    const IdentitySamples own = catalog->Samples(i);
    for (uint64_t j = 0; j < own.count; ++j) {
      samples.push_back(own[j]);
      labels.push_back(static_cast<int64_t>(i));
    }
  }
  if (!o.labels.empty()) RETURN_IF_ERROR(WriteLabels(labels, o.labels, fs));
  const auto source = MakeCatalogSource(*catalog, samples);
  return EmbedToFile(*source, model,
                     absl::StrCat("catalog ", catalog->fingerprint(), ", split \"", o.split, "\""), o, fs);
}

}  // namespace

CLI::App* AddEmbedCommand(CLI::App& app, EmbedCommandOptions* o) {
  CLI::App* embed = app.add_subcommand("embed", "Embeddings of a catalog or a folder of images, as .npy");
  embed->add_option("--model", o->model, "Model directory")->required();
  embed->add_option("--catalog", o->catalog, "Catalog directory: labels are its numbers of the identities");
  embed->add_option("--images", o->images, "Folder: labels number the folders that images lie in, by name");
  embed->add_option("--split", o->split, "Of the catalog (default: all identities)");
  embed->add_option("--output", o->output, "[N, D] float32 .npy")->required();
  embed->add_option("--labels", o->labels, "[N] int64 .npy to write");
  embed->add_option("--names", o->names, "Text to write: the path of every row, a line each");
  embed->add_flag("--normalize,!--no-normalize", o->embed.normalize, "To unit length (the default)");
  embed->add_flag("--mirror", o->embed.mirror, "Add the embedding of the mirror image");
  embed->add_option("--threads", o->embed.threads, "That decode and embed")->capture_default_str();
  embed->add_option("--batch-size", o->embed.batch_size, "Images at once")->capture_default_str();
  embed->add_option("--device", o->device, "auto, cpu, cuda:N")->capture_default_str();
  return embed;
}

absl::StatusOr<std::string> EmbedToFile(const ImageSource& source, const EmbeddingModel& model,
                                        const std::string& data, const EmbedCommandOptions& o,
                                        FileSystem& fs) {
  if (source.size() == 0) return absl::FailedPreconditionError(absl::StrCat(data, ": no image to embed"));
  if (!o.names.empty()) RETURN_IF_ERROR(WriteNames(source, o.names, fs));
  const ModelSpec& spec = model.spec();
  nlohmann::ordered_json record;
  record["model"] = spec.fingerprint;
  record["data"] = data;
  record["rows"] = source.size();
  record["dimension"] = spec.dimension;
  record["mirror"] = o.embed.mirror;
  record["normalize"] = o.embed.normalize;
  EmbeddingFile file(fs, o.output, source.size(), spec.dimension);
  ASSIGN_OR_RETURN(const int64_t there, file.Open(record.dump(2) + "\n"));
  EmbedOptions embed = o.embed;
  if (embed.chunk <= 0) embed.chunk = kRowsPerWrite;
  RETURN_IF_ERROR(EmbedImages(source, model, there, "embed", embed,
                              [&](int64_t, const std::vector<float>& rows) { return file.Append(rows); }));
  RETURN_IF_ERROR(file.Finish());
  std::string text = absl::StrFormat("%s: %d x %d float32, model %s at step %d", o.output, source.size(),
                                     spec.dimension, spec.fingerprint, spec.step);
  if (there > 0) absl::StrAppend(&text, "; ", FormatCount(there), " rows were there already");
  return text + "\n";
}

absl::StatusOr<std::string> RunEmbed(const EmbedCommandOptions& o, FileSystem& fs) {
  RETURN_IF_ERROR(CheckEmbed(o));
  ASSIGN_OR_RETURN(std::unique_ptr<EmbeddingModel> model, LoadEmbeddingModel(o.model, o.device));
  RETURN_IF_ERROR(fs.MakeDirectories(DirectoryOf(o.output)));
  if (!o.catalog.empty()) return EmbedCatalog(o, *model, fs);
  ASSIGN_OR_RETURN(const std::unique_ptr<ImageSource> source, MakeFolderSource(o.images));
  if (!o.labels.empty()) RETURN_IF_ERROR(WriteLabels(FolderLabels(*source), o.labels, fs));
  return EmbedToFile(*source, *model, FolderFingerprint(o.images, *source, fs), o, fs);
}

}  // namespace doppel
