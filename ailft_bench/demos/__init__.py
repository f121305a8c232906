"""Demonstrations: one episode format, scripted experts, importers, open-loop replay, contact sheets.

What the rest of the project calls (progress messages go to the callback ``on_progress``; nothing is printed):

    collection.provide(env_id, env_kwargs, source, episodes, seed, cache, on_progress) -> Demonstrations
    collection.demonstrations_checksum(env_id, env_kwargs, source, episodes, seed) -> str
    collection.make(env_id, env_kwargs, episodes, seed, directory, on_progress) -> Demonstrations
    collection.list_sets(results_dir) -> list[SetSummary]
    directory.read_set(directory, episodes=None) -> (tuple[Episode, ...], checksum)
    importers.import_source(source, env_id, env_kwargs, out_dir, *, episodes, seeds_tried, seed, keep_best,
                            on_progress) -> ImportReport
    replay.replay(env_id, env_kwargs, demonstrations, episodes, seed, on_progress) -> ReplayScore
    show.show(episodes, out, columns=8) -> Path
    episode.load_episode(path), episode.save_episode(path, episode), experts.expert_for(env_id)
"""
