#include <algorithm>

#include "absl/strings/str_cat.h"
#include "common/base/status_macros.h"
#include "common/catalog/catalog_version.h"
#include "common/catalog/sample_selection.h"
#include "services/miner_server/live_services.h"
#include "services/miner_server/stream_writer.h"

namespace doppel {
namespace {

constexpr size_t kRangeMessageBytes = size_t{1} << 20;
constexpr int kRangeMessageSamples = 4096;

// The samples of a range, in the order in which an embedder takes them.
class RangeWriter final : public MessageWriter<v1::FetchRangeResponse> {
 public:
  RangeWriter(const ControlEnvironment& environment, const v1::FetchRangeRequest& request)
      : MessageWriter(*environment.executor),
        catalog_(AtVersion(environment.miner->catalog(), request.catalog_fingerprint())),
        request_(request),
        skip_(request.skip()) {
    Start();
  }

 private:
  // As it was when the range was leased; Open refuses another catalog.
  static std::shared_ptr<const Catalog> AtVersion(std::shared_ptr<const Catalog> newest,
                                                  const std::string& fingerprint) {
    absl::StatusOr<std::shared_ptr<const Catalog>> version = CatalogAtVersion(newest, fingerprint);
    return version.ok() ? *std::move(version) : newest;
  }

  absl::StatusOr<bool> Next(v1::FetchRangeResponse* response) override {
    if (!opened_) {
      opened_ = true;
      RETURN_IF_ERROR(Open(response->mutable_table()));
      return true;
    }
    size_t bytes = 0;
    while (row_ < request_.identity_count() && bytes < kRangeMessageBytes &&
           response->samples_size() < kRangeMessageSamples) {
      const uint64_t identity = Identity(row_);
      const IdentitySamples samples = catalog_->Samples(identity);
      if (k_ == SelectedSamples(samples.count, request_.samples_per_identity())) {
        ++row_;
        k_ = 0;
        continue;
      }
      const uint64_t position =
          SelectedSample(samples.count, request_.samples_per_identity(), request_.seed(), identity, k_++);
      if (skip_ > 0) {
        --skip_;
        continue;
      }
      bytes += Fill(samples[position], response->add_samples());
    }
    return response->samples_size() > 0;
  }

  absl::Status Open(v1::RangeTable* table) const {
    if (request_.catalog_fingerprint() != catalog_->fingerprint()) {
      return absl::FailedPreconditionError(
          absl::StrCat("catalog_fingerprint: ", request_.catalog_fingerprint(), ", this miner serves ",
                       catalog_->fingerprint()));
    }
    const uint64_t all = catalog_->num_identities();
    const bool listed = request_.identities_size() > 0;
    const bool fits = listed
                          ? static_cast<uint64_t>(request_.identities_size()) == request_.identity_count() &&
                                std::all_of(request_.identities().begin(), request_.identities().end(),
                                            [all](uint64_t identity) { return identity < all; })
                          : request_.first_identity() < all && request_.identity_count() > 0 &&
                                request_.identity_count() <= all - request_.first_identity();
    if (!fits) {
      return absl::OutOfRangeError(absl::StrCat("identities [", request_.first_identity(), ", +",
                                                request_.identity_count(),
                                                ") are not in the catalog, which has ", all));
    }
    for (uint64_t i = 0; i < request_.identity_count(); ++i) {
      const IdentitySamples samples = catalog_->Samples(Identity(i));
      table->add_first_samples(samples.first);
      table->add_samples(samples.count);
      table->add_names(std::string(catalog_->IdentityName(Identity(i))));
      if (samples.numbers == nullptr) continue;
      v1::ScatteredSamples* scattered = table->add_scattered();
      scattered->set_row(static_cast<uint32_t>(i));
      scattered->mutable_numbers()->Add(samples.numbers, samples.numbers + samples.count);
    }
    return absl::OkStatus();
  }

  uint64_t Identity(uint64_t row) const {
    return request_.identities_size() > 0 ? request_.identities(static_cast<int>(row))
                                          : request_.first_identity() + row;
  }

  // Returns about how many bytes it takes.
  size_t Fill(uint64_t sample, v1::RangeSample* message) const {
    message->set_sample(sample);
    message->set_key(std::string(catalog_->SampleKey(sample)));
    message->set_crc32c(catalog_->Sample(sample).crc32c);
    const absl::StatusOr<SampleBytes> bytes = catalog_->Read(sample);
    if (bytes.ok()) {
      message->set_encoded(bytes->data.data(), bytes->data.size());
    } else {
      message->set_error(std::string(bytes.status().message()));
    }
    return message->ByteSizeLong();
  }

  const std::shared_ptr<const Catalog> catalog_;
  const v1::FetchRangeRequest request_;
  uint64_t skip_;
  bool opened_ = false;
  uint64_t row_ = 0;
  uint64_t k_ = 0;  // of the row's selected samples
};

}  // namespace

grpc::ServerWriteReactor<v1::FetchRangeResponse>* StartRangeStream(const ControlEnvironment& environment,
                                                                   const v1::FetchRangeRequest& request) {
  return new RangeWriter(environment, request);
}

}  // namespace doppel
