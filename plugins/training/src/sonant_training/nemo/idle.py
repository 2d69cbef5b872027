"""Keys of NeMo's configs that change nothing here: how NeMo computes and logs, or what other keys say already."""

from __future__ import annotations


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


DOCUMENT = _words("hydra defaults name")

MODEL = _words("skip_nan_grad log_prediction use_cer compute_eval_loss nemo_version")

DATA = _words("""
    blank_index bucket_buffer_size bucketing_2d_strict_mode bucketing_strategy cal_labels_occurrence
    concurrent_bucketing cuda_expandable_segments defer_setup drop_last global_rank index_by_file_id int_values
    is_tarred labels lang_field max_open_streams metadata_only missing_sampling_rate_ok multi_config name noise_mix_prob
    noise_snr normalize_transcripts num_cuts_for_bins_estimate parser persistent_workers pin_memory pretokenize
    prompt_format return_cuts return_sample_id rir_prob sample_rate seed shard_manifests shard_seed shuffle_buffer_size
    shuffle_n skip_missing_manifest_entries tarred_random_access tarred_shard_strategy text_field unk_index use_lhotse
    use_start_end_token world_size
""")

OPTIMIZER = _words("bucket_cap_mb capturable differentiable foreach fused maximize overlap_grad_sync")

SCHEDULER = _words("cycle iters_per_batch last_epoch monitor reduce_on_plateau verbose")

TRAINER = _words("""
    amp_backend amp_level check_val_every_n_epoch checkpoint_callback distributed_backend enable_checkpointing
    enable_model_summary enable_progress_bar gpus limit_train_batches logger num_sanity_val_steps
    progress_bar_refresh_rate replace_sampler_ddp resume_from_checkpoint use_distributed_sampler weights_summary
""")

EXPERIMENT = _words("""
    clearml_logger_kwargs create_preemption_callback disable_validation_on_resume dllogger_logger_kwargs fault_tolerance
    files_to_copy ipl_epoch_stopper_callback_params log_delta_step_timing log_step_timing log_tflops_per_sec_per_gpu
    mlflow_logger_kwargs neptune_logger_kwargs resume_ignore_no_checkpoint resume_past_end seconds_to_sleep
    step_timing_kwargs straggler_detection_params summary_writer_kwargs use_datetime_version wandb_logger_kwargs
""")

CHECKPOINTS = _words("""
    async_save auto_insert_metric_name dirpath every_n_epochs filename filepath model_parallel_size postfix prefix
    save_best_model save_on_train_epoch_end verbose
""")
