#include "common/base/published_ptr.h"

#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <thread>

namespace doppel {
namespace {

TEST(PublishedPtrTest, StartsEmpty) { EXPECT_EQ(PublishedPtr<int>().Get(), nullptr); }

TEST(PublishedPtrTest, PublishReturnsThePreviousValue) {
  PublishedPtr<int> value;
  EXPECT_EQ(value.Publish(std::make_shared<int>(1)), nullptr);
  EXPECT_EQ(*value.Publish(std::make_shared<int>(2)), 1);
  EXPECT_EQ(*value.Get(), 2);
}

TEST(PublishedPtrTest, ReadersKeepWhatTheyHold) {
  PublishedPtr<int> value;
  value.Publish(std::make_shared<int>(1));
  const std::shared_ptr<const int> held = value.Get();
  value.Publish(std::make_shared<int>(2));
  EXPECT_EQ(*held, 1);
}

TEST(PublishedPtrTest, ReadersSeeValuesInOrderWhileAWriterPublishes) {
  PublishedPtr<int> value;
  value.Publish(std::make_shared<int>(0));
  std::thread writer([&] {
    for (int i = 1; i <= 2000; ++i) value.Publish(std::make_shared<int>(i));
  });
  int last = 0;
  while (last < 2000) {
    const int now = *value.Get();
    ASSERT_GE(now, last);
    last = now;
  }
  writer.join();
}

}  // namespace
}  // namespace doppel
