"""The layering checks must be able to fail."""
import unittest

import include_graph as graph


class IncludeGraphTest(unittest.TestCase):
    def test_trainer_may_not_see_miner(self):
        self.assertTrue(list(graph.check_rooms({"trainer/loss/a.cc": ["miner/planning/plan.h"]})))

    def test_miner_rooms_do_not_look_up(self):
        self.assertTrue(list(graph.check_rooms({"miner/clustering/a.cc": ["miner/planning/plan.h"]})))
        self.assertTrue(list(graph.check_rooms({"miner/generation/a.cc": ["miner/miner.h"]})))

    def test_nobody_includes_services(self):
        self.assertTrue(list(graph.check_rooms({"miner/miner.cc": ["services/ctl/table.h"]})))

    def test_base_knows_nobody(self):
        self.assertTrue(list(graph.check_rooms({"common/base/a.h": ["common/io/npy.h"]})))

    def test_services_see_both(self):
        self.assertEqual([], list(graph.check_rooms({"services/x/a.cc": ["miner/miner.h", "trainer/eval/a.h"]})))

    def test_cycle_is_found(self):
        found = list(graph.check_cycles({"common/io/a.h": ["common/io/b.h"], "common/io/b.h": ["common/io/a.h"]}))
        self.assertEqual(1, len(found))

    def test_heavy_library_away_from_home(self):
        self.assertTrue(list(graph.check_homes({"miner/planning/a.cc": ["faiss/Clustering.h"]})))
        self.assertTrue(list(graph.check_homes({"miner/generation/a.cc": ["grpcpp/grpcpp.h"]})))
        self.assertEqual([], list(graph.check_homes({"miner/clustering/a.cc": ["faiss/Clustering.h"]})))

    def test_torch_in_a_public_header(self):
        self.assertTrue(list(graph.check_headers({"trainer/loss/a.h": ["torch/torch.h"]})))
        self.assertTrue(list(graph.check_headers({"common/catalog/a.h": ["torch/types.h"]})))

    def test_a_heavy_header_leaves_its_home(self):
        private = {"common/image/a.h": ["opencv2/core.hpp"], "common/image/b.cc": ["common/image/a.h"]}
        self.assertEqual([], list(graph.check_headers(private)))
        self.assertTrue(list(graph.check_headers({**private, "services/x/c.cc": ["common/image/a.h"]})))


if __name__ == "__main__":
    unittest.main()
