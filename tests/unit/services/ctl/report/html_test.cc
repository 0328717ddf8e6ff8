#include "services/ctl/report/html.h"

#include "gmock/gmock.h"

namespace doppel::report {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

TEST(Html, EscapesWhatHtmlTakesForItself) {
  EXPECT_EQ(Escape("<a href='x'>\"&\"</a>"), "&lt;a href=&#39;x&#39;&gt;&quot;&amp;&quot;&lt;/a&gt;");
}

TEST(Html, TableCellsAreText) {
  const std::string html = RenderTable({{"<h>"}, {{"<row>", "<cell>"}}});
  EXPECT_THAT(html, HasSubstr("<th>&lt;h&gt;</th>"));
  EXPECT_THAT(html, HasSubstr("<th scope=\"row\">&lt;row&gt;</th><td>&lt;cell&gt;</td>"));
}

TEST(Html, NumbersAlignRight) {
  EXPECT_THAT(RenderTable({{"a", "b"}, {{"1", "12.3 %"}}}), HasSubstr("<td class=\"n\">12.3 %</td>"));
  EXPECT_THAT(RenderTable({{"a", "b"}, {{"1", "text"}}}), HasSubstr("<td>text</td>"));
}

TEST(Html, NumbersAreShort) {
  EXPECT_EQ(Number(3000), "3000");
  EXPECT_EQ(Number(0.123456), "0.1235");
  EXPECT_EQ(Number(1234.56), "1235");
  EXPECT_EQ(Number(1e-6), "1e-06");
  EXPECT_EQ(Percent(0.98765), "98.8 %");
}

}  // namespace
}  // namespace doppel::report
